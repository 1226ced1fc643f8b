"""A study of kept tokens with known answers."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from patchscale.errors import InputError
from patchscale.laws import kept_tokens
from patchscale.laws.kept_tokens import equal_flops, frontier, with_full

SIZES = {"small": 1e4, "middle": 1e5, "large": 1e6}


def study(interaction: float, noise: float = 0.002) -> pd.DataFrame:
    """Losses E + A / P^0.3 + B P^-c / K^0.8, a learned reducer with parameters that grow with K, and a free one."""
    generator, rows = np.random.default_rng(0), []
    for (model, params), kept, seed in itertools.product(SIZES.items(), (2, 4, 8, 16, 32, 64), range(3)):
        for reducer in ("none",) if kept == 64 else ("good", "bad"):
            scale = {"none": 1.0, "good": 1.0, "bad": 2.0}[reducer]
            loss = 2 + 8 * params**-0.3 + scale * 20**interaction * (params / 1e4) ** -interaction / kept**0.8
            rows.append(
                {
                    "model": model, "reducer": reducer, "kept_tokens": kept, "random_seed": seed,
                    "params_without_positions": params + (0 if reducer == "none" else 1e4 * kept),
                    "flops_per_image": 1e3 * params * kept,
                    "test_loss": loss + noise * generator.normal(),
                }
            )  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def found():
    return kept_tokens(study(0.3))


def test_an_interaction_is_found_where_there_is_one(found):
    good = next(test for test in found["interaction"] if test["reducer"] == "good")
    assert good["verdict"] == "interaction", good["sentence"]
    assert good["x"] == ["model_params", "kept_tokens"]
    assert good["exponent"]["value"] == pytest.approx(0.3, abs=0.02)
    assert list(good["by_seed"].values()) == pytest.approx([0.3] * 3, abs=0.05)
    assert "on each random seed alone: 0.3, 0.3, 0.3." in good["sentence"]


def test_no_interaction_is_seen_where_there_is_none():
    table = study(0.0)
    (test,) = kept_tokens(table[table["reducer"] != "bad"])["interaction"]
    assert test["verdict"] == "none seen", test["sentence"]


def test_random_seeds_that_disagree_show_no_interaction():
    """One seed in which larger models need fewer tokens by much, one in which they need more by little."""
    parts = [study(strength).query(f"random_seed == {seed}") for seed, strength in ((0, 0.4), (1, -0.15))]
    table = pd.concat(parts)
    (test,) = kept_tokens(table[table["reducer"] != "bad"])["interaction"]
    assert test["p"] < 0.1
    assert test["by_seed"]["0"] > 0 > test["by_seed"]["1"]
    assert test["verdict"] == "none seen"
    assert "disagree about its sign" in test["sentence"]


def test_a_seed_that_cannot_be_fitted_does_not_disagree():
    """Two whole seeds and one that has only begun."""
    table = study(0.3).query("reducer != 'bad' and (random_seed < 2 or (model == 'small' and kept_tokens >= 32))")
    (test,) = kept_tokens(table)["interaction"]
    assert test["by_seed"]["2"] is None
    assert test["verdict"] == "interaction", test["sentence"]


def test_minimum_tokens_of_every_reducer_model_and_tolerance(found):
    found = found["minimum_tokens"]
    assert len(found) == 2 * 3 * 6
    absolute = {(r["reducer"], r["group"]["model"]): r for r in found if r["tolerance"] == 0.1 and not r["relative"]}
    assert absolute["good", "large"]["tokens"] < absolute["good", "small"]["tokens"]
    assert absolute["good", "small"]["tokens"] < absolute["bad", "small"]["tokens"]
    one = absolute["good", "large"]
    assert one["low"] <= one["tokens"] <= one["high"]


def test_equal_flops_compares_within_the_measured_range_alone():
    rows = equal_flops(study(0.0, noise=0.0), shares=(0.25, 0.01))
    quarter = next(row for row in rows if row["model"] == "small" and row["share"] == 0.25)
    assert quarter["flops"] == 0.25 * 64e7
    expected = 2 + 8 * 1e4**-0.3 + 16**-0.8
    assert quarter["values"]["good"]["mean"] == pytest.approx(expected)
    assert quarter["values"]["bad"]["mean"] == pytest.approx(expected + 16**-0.8)
    assert all(value is None for row in rows if row["share"] == 0.01 for value in row["values"].values())


def test_unfinished_studies_use_the_seeds_that_have_both():
    table = study(0.0)
    table = table[~((table["reducer"] == "bad") & (table["random_seed"] == 2))]
    assert set(with_full(table, "bad")["random_seed"]) == {0, 1}
    assert set(with_full(table, "good")["random_seed"]) == {0, 1, 2}
    with pytest.raises(InputError, match=r"no trial of large keeps all tokens \(reducer none\)"):
        kept_tokens(table[~((table["reducer"] == "none") & (table["model"] == "large"))])


def test_a_model_that_serves_several_k_is_its_own_full_model():
    table = study(0.0)
    own = table[(table["reducer"] == "none") & (table["random_seed"] == 0)].assign(reducer="good")
    together = pd.concat([table, own.assign(test_loss=own["test_loss"] + 1)])
    full = with_full(together, "good").query("kept_tokens == 64").sort_values(["model", "random_seed"])
    assert len(full) == 3 * 3
    alone = with_full(table, "good").query("kept_tokens == 64").sort_values(["model", "random_seed"])
    shift = full["test_loss"].to_numpy() - alone["test_loss"].to_numpy()
    np.testing.assert_allclose(shift, [1, 0, 0] * 3, atol=1e-12)


def test_the_frontier_is_what_nothing_cheaper_beats():
    rows = frontier(study(0.0, noise=0.0))
    costs, losses = ([row[name] for row in rows] for name in ("flops_per_image", "test_loss"))
    assert costs == sorted(costs)
    assert losses == sorted(losses, reverse=True)
    assert {row["reducer"] for row in rows} == {"good", "none"}, "the bad one loses everywhere"
    assert rows[-1]["model"] == "large"
    assert all(row["seeds"] == 3 for row in rows)
    assert isinstance(rows[0]["kept_tokens"], int)
