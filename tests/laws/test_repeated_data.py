"""A study of repeated data with known answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from patchscale.laws import repeated_data

SIZES = {"zepto": 1e4, "atto": 3e4, "femto": 1e5, "pico": 3e5}
THREE = {name: SIZES[name] for name in ("atto", "femto", "pico")}
"""Too few for a law of the clean trials, and so quicker."""
REPEATS = (1, 3, 10, 30, 100, 300, 1000)


def clean(size: float) -> float:
    return 1.2 + 40 * size**-0.5


def peaked(model: str, repeats: int) -> float:
    """Harm of up to 0.1 at R = 30, nothing far from it."""
    return 0.1 * float(np.exp(-(np.log(repeats / 30) ** 2))) if repeats > 1 else 0.0


def study(harm: Callable[[str, int], float], seeds: int = 3, noise: float = 0.003, models=SIZES) -> pd.DataFrame:
    generator, rows = np.random.default_rng(0), []
    luck = 0.05 * generator.normal(size=seeds)
    for (model, size), repeats, seed in itertools.product(models.items(), REPEATS, range(seeds)):
        loss = clean(size) + harm(model, repeats) + noise * generator.normal() + noise * luck[seed]
        rows.append(
            {
                "trial": f"{model}-{repeats}-{seed}", "model": model, "data.repeats": repeats, "random_seed": seed,
                "params_without_positions": size, "test_loss": loss, "repeated_loss": 1 / repeats,
                "data.repeat_fraction": 0.1,
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def curves_of(table: pd.DataFrame, rise: float = 0.0) -> pd.DataFrame:
    """Three test points, the second of which lies `rise` above the first."""
    lines = []
    for row in table.to_dict("records"):
        for step, loss in ((100, 3.0), (200, 3.0 + rise), (400, row["test_loss"])):
            lines.append({"trial": row["trial"], "step": step, "test_loss": loss})
    return pd.DataFrame(lines).sample(frac=1, random_state=0)


def verdicts(table: pd.DataFrame) -> dict[str, str]:
    (found,) = repeated_data(table, curves_of(table))
    return {entry["model"]: entry["verdict"] for entry in found["models"]}


def test_a_peak_is_found_where_there_is_one():
    table = study(peaked)
    (found,) = repeated_data(table, curves_of(table))
    for entry in found["models"]:
        assert (entry["verdict"], entry["worst"]) == ("peak", 30), entry["sentence"]
    worst = next(row for row in found["rows"] if (row["model"], row["repeats"]) == ("pico", 30))
    assert worst["excess_low"] < 0.1 < worst["excess_high"]
    assert worst["excess_low"] > 0


def test_sizes_may_be_told_apart_by_any_column_and_any_loss_be_asked():
    """As of language models of several widths behind one encoder, and of their loss on copies."""
    table = study(peaked).rename(columns={"test_loss": "copying_loss"})
    table = table.assign(**{"task.width": table["model"].map(SIZES).astype(int), "model": "encoder"})
    curves = curves_of(table.assign(test_loss=table["copying_loss"])).rename(columns={"test_loss": "copying_loss"})
    (found,) = repeated_data(table, curves, "copying_loss", ["model"], model="task.width")
    assert (found["group"], found["y"]) == ({"model": "encoder"}, "copying_loss")
    assert [entry["model"] for entry in found["models"]] == [f"width {int(size)}" for size in SIZES.values()]
    assert all("30 repeats are worst, copying loss +0." in entry["sentence"] for entry in found["models"])
    assert found["clean"] is not None


def test_its_absence_is_shown_in_the_right_words():
    assert set(verdicts(study(lambda model, repeats: 0.0, models=THREE)).values()) == {"no harm seen"}
    rising = study(lambda model, repeats: 0.02 * np.log(repeats), models=THREE)
    assert set(verdicts(rising).values()) == {"rises"}
    level = study(lambda model, repeats: 0.1 if repeats > 1 else 0.0, models=THREE)
    assert set(verdicts(level).values()) <= {"harm", "rises"}
    assert set(verdicts(study(peaked, seeds=1, models=THREE)).values()) == {"undecided"}


def test_effective_size_is_where_the_clean_law_has_the_loss():
    table = study(peaked, noise=0.001)
    (found,) = repeated_data(table, curves_of(table))
    rows = {(row["model"], row["repeats"]): row for row in found["rows"]}
    for model in ("atto", "femto", "pico"):
        expected = (40 / (clean(SIZES[model]) + 0.1 - 1.2)) ** 2
        row = rows[model, 30]
        assert row["effective_size"] == pytest.approx(expected, rel=0.1)
        assert row["effective_low"] < row["effective_size"] < row["effective_high"]
        assert row["effective_low"] < expected < row["effective_high"]
        assert not row["extrapolated"]
        assert rows[model, 1]["effective_size"] == pytest.approx(SIZES[model], rel=0.1)
    assert rows["zepto", 30]["extrapolated"]


def test_the_interval_of_an_effective_size_holds_the_seeds_own_luck():
    """Seeds that differ by much leave differences between R exact, but not what one R's mean loss is worth."""
    luck = {0: -0.03, 1: 0.0, 2: 0.03}
    table = study(peaked, noise=1e-4)
    table["test_loss"] += table["random_seed"].map(luck)
    (found,) = repeated_data(table, curves_of(table))
    row = next(row for row in found["rows"] if (row["model"], row["repeats"]) == ("femto", 30))
    assert row["excess_high"] - row["excess_low"] < 0.001
    half = 2.92 * 0.03 / np.sqrt(3)  # t interval of three seeds
    smaller, larger = ((40 / (row["loss"] + sign * half - 1.2)) ** 2 for sign in (1, -1))
    assert row["effective_low"] < smaller
    assert larger < row["effective_high"]


def test_three_sizes_give_harm_but_no_effective_size():
    table = study(peaked, models=THREE)
    (found,) = repeated_data(table, curves_of(table))
    assert found["clean"] is None
    assert found["notes"] == ["effective sizes need 4 model sizes without repetition; 3 are finished"]
    assert {entry["verdict"] for entry in found["models"]} == {"peak"}
    assert all(row["effective_size"] is None for row in found["rows"])


def test_rises_on_the_way_and_what_is_remembered_are_averaged():
    table = study(peaked, models=THREE)
    (found,) = repeated_data(table, curves_of(table, rise=0.25))
    assert all(row["rise"] == pytest.approx(0.25) for row in found["rows"])
    assert all(row["repeated_loss"] == pytest.approx(1 / row["repeats"]) for row in found["rows"])
    assert "unique_loss" not in found["rows"][0]


def test_seeds_that_lack_a_number_of_repeats_wait():
    table = study(peaked, models=THREE)
    part = table[(table["random_seed"] < 2) | (table["data.repeats"] < 30)]
    (found,) = repeated_data(part, curves_of(part))
    assert {row["seeds"] for row in found["rows"]} == {2}


def test_fractions_are_told_apart():
    table = study(peaked, models=THREE)
    both = pd.concat([table, table.assign(**{"data.repeat_fraction": 0.5, "trial": table["trial"] + "x"})])
    found = repeated_data(both, curves_of(both), group=["data.repeat_fraction"])
    assert [entry["group"] for entry in found] == [{"data.repeat_fraction": 0.1}, {"data.repeat_fraction": 0.5}]
