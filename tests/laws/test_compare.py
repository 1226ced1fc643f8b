"""Which form holds, whether two axes interact, what a law says backwards, what to train for a budget."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from patchscale import laws
from patchscale.errors import InputError


def line(function, x, noise=0.0, seed=0) -> pd.DataFrame:
    x = np.asarray(x, dtype=float)
    scatter = np.exp(noise * np.random.default_rng(seed).normal(size=len(x)))
    return pd.DataFrame({"tokens": x, "test_loss": function(x) * scatter})


def plane(interaction: float, noise: float = 0.003) -> pd.DataFrame:
    params, tokens = np.array(np.meshgrid([5e6, 2e7, 8e7, 3e8], [16, 64, 256, 1024, 4096.0])).reshape(2, -1)
    loss = 1.0 + 200 * params**-0.35 + 3 * (params / 4e7) ** -interaction * tokens**-0.5
    loss = loss * np.exp(noise * np.random.default_rng(3).normal(size=len(loss)))
    return pd.DataFrame({"params": params, "tokens": tokens, "test_loss": loss})


def test_the_true_form_wins_where_the_data_show_it():
    table = line(lambda x: 0.8 + 2 * x**-0.6, np.geomspace(4, 65536, 15), noise=0.003)
    (found,) = laws.compare(table, forms=("power", "power_floor", "log_linear"))
    assert found.rows[0]["form"] == "power_floor"
    assert found.best == ("power_floor", "AICc")
    assert found.sentence.startswith("power_floor fits best")
    assert "held out, power_floor predicts the finest point best" in found.sentence
    assert sum(row["weight"] for row in found.rows) == pytest.approx(1.0)
    json.dumps(found.to_dict(), allow_nan=False)
    assert found.to_frame()["form"].iloc[0] == "power_floor"


def test_forms_that_cannot_be_told_apart_are_named():
    table = line(lambda x: 2 * x**-0.05, [16, 32, 64, 128, 256, 512, 1024], noise=0.03)
    (found,) = laws.compare(table, forms=("power", "log_linear"))
    assert "the data cannot tell" in found.sentence
    assert "power" in found.sentence
    assert "log_linear apart" in found.sentence


def test_too_few_points_for_a_form_is_a_note_not_an_error():
    (found,) = laws.compare(line(lambda x: 2 * x**-0.3, [4, 16], noise=0.01), forms=("power", "power_floor"))
    notes = {row["form"]: row["note"] for row in found.rows}
    assert notes["power_floor"] == "3 parameters, 2 distinct points"
    assert "too few points" in found.sentence


def test_interaction_is_found_where_it_is_and_only_there():
    none, some = (laws.interaction_test(plane(c), starts=128) for c in (0.0, 0.3))
    assert none["verdict"] == "none seen"
    assert none["exponent"]["low"] < 0 < none["exponent"]["high"]
    assert "No interaction" in none["sentence"]
    assert some["verdict"] == "interaction"
    assert some["p"] < 1e-3
    assert some["delta_aicc"] < -4
    assert some["exponent"]["low"] < 0.3 < some["exponent"]["high"]
    assert "fewer tokens" in some["sentence"]
    json.dumps(some, allow_nan=False)


def test_effective_size_is_the_law_read_backwards():
    table = line(lambda x: 1.5 + 300 * x**-0.4, np.geomspace(1e6, 1e9, 12), noise=0.001).rename(
        columns={"tokens": "params"}
    )
    (law,) = laws.fit(table, "params", bootstrap=0)
    found = laws.equivalent(law, 1.5 + 300 * 5e7**-0.4)
    assert found["value"] == pytest.approx(5e7, rel=0.03)
    assert found["low"] < 5e7 < found["high"]
    assert not found["extrapolated"]
    beyond = laws.equivalent(law, 1.5 + 300 * 4e9**-0.4)
    assert beyond["extrapolated"]
    assert "extrapolation" in beyond["sentence"]
    assert laws.equivalent(law, 0.5)["value"] is None


def test_effective_data_of_a_joint_law_needs_the_other_axis():
    table = plane(0.0)
    (law,) = laws.fit(table, "params,tokens", form="additive", bootstrap=0, held_out=False)
    loss = 1.0 + 200 * 4e7**-0.35 + 3 * 300.0**-0.5
    found = laws.equivalent(law, loss, "tokens", at={"params": 4e7})
    assert found["low"] < 300 < found["high"]
    with pytest.raises(InputError, match="also depends on params"):
        laws.equivalent(law, loss, "tokens")
    with pytest.raises(InputError, match="none of the law's: params, tokens"):
        laws.equivalent(law, loss, "samples")


def test_minimum_tokens_interpolates_and_bootstraps_seeds():
    rows = [
        ("vit", k, seed, accuracy + 0.1 * seed)
        for k, accuracy in {16: 60.0, 64: 70.0, 128: 74.0, 196: 75.0}.items()
        for seed in (0, 1, 2)
    ]
    table = pd.DataFrame(rows, columns=["model", "tokens_kept", "random_seed", "top1"])
    (found,) = laws.minimum_tokens(table, 1.0)
    assert found["tokens"] == pytest.approx(128)
    assert found["low"] <= found["tokens"] <= found["high"]
    (half,) = laws.minimum_tokens(table, 3.0, full=75.1)
    assert half["tokens"] == pytest.approx(64 + 64 * 2 / 4)
    assert half["tokens_up"] == 96
    (share,) = laws.minimum_tokens(table, 0.2, relative=True)
    assert share["tokens"] == pytest.approx(16 + 48 * (0.8 * 75.1 - 60.1) / 10) or share["tokens"] == 16
    (never,) = laws.minimum_tokens(table, 1.0, full={"vit": 99.0})
    assert never["tokens"] is None
    assert "does not come within" in never["sentence"]
    with pytest.raises(InputError, match="no full-token value for model=vit"):
        laws.minimum_tokens(table, 1.0, full={"deit": 80.0})


def test_pareto_set_keeps_only_what_nothing_beats():
    table = pd.DataFrame({"train_flops": [1, 2, 3, 4, 2], "test_loss": [5.0, 4.0, 4.5, 3.0, 4.2]})
    assert list(laws.pareto(table)["test_loss"]) == [5.0, 4.0, 3.0]
    scores = table.rename(columns={"test_loss": "top1"})
    assert list(laws.pareto(scores, y="top1", lower_is_better=False)["top1"]) == [5.0]


def test_compute_optimal_patch_changes_with_the_budget():
    rows = []
    for patch, start, slope in ((8, 2.0, 0.2), (4, 2.45, 0.5)):
        for seed in (0, 1):
            for flops in np.geomspace(1e9, 1e12, 13):
                rows.append(("m", patch, seed, flops, start - slope * np.log10(flops / 1e9) + 0.01 * seed))
    table = pd.DataFrame(rows, columns=["model", "patch_size", "random_seed", "train_flops", "test_loss"])
    early, late, nothing = laws.compute_optimal(table, [1e10, 1e12, 1e8])
    assert early["best"] == {"model": "m", "patch_size": 8}
    assert late["best"] == {"model": "m", "patch_size": 4}
    assert late["y"] == pytest.approx(0.95 + 0.005)
    assert late["margin"] == pytest.approx(0.45)
    assert nothing["best"] is None
    assert len(laws.compute_optimal(table)) == 9


def test_chinchilla_optimum_is_the_minimum_of_the_law():
    params, samples = np.array(np.meshgrid(np.geomspace(5e7, 1e10, 8), np.geomspace(1e9, 1e12, 8))).reshape(2, -1)
    loss = 1.8172 + 482.01 * params**-0.3478 + 2085.43 * samples**-0.3658
    loss *= np.exp(0.002 * np.random.default_rng(0).normal(size=64))
    table = pd.DataFrame({"params": params, "samples": samples, "loss": loss})
    (law,) = laws.fit(table, "params,samples", "loss", form="chinchilla", held_out=False, bootstrap=100)
    best = laws.optimal_allocation(law, 1e21)
    grid = np.geomspace(1e7, 1e12, 20001)
    losses = law.predict({"params": grid, "samples": 1e21 / 6 / grid})
    assert best["params"]["value"] == pytest.approx(grid[losses.argmin()], rel=2e-3)
    assert best["loss"]["value"] == pytest.approx(losses.min(), rel=1e-9)
    assert best["exponent"]["low"] < 0.3658 / (0.3478 + 0.3658) < best["exponent"]["high"]
    with pytest.raises(InputError, match="'power'"):
        laws.optimal_allocation(laws.fit(table, "params", "loss", form="power", held_out=False)[0], 1e21)
