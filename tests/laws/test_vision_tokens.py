"""S(n) of a study of vision tokens: means, rise and laws; and the kept comparison of the published curves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from patchscale import laws
from patchscale.errors import InputError
from patchscale.laws.vision_tokens import fit_published_vlm
from patchscale.laws.vlm_theory import token_score

N = "task.vision_tokens"


def table(means: dict[int, float], noise: float = 0.0, seeds: int = 3) -> pd.DataFrame:
    random = np.random.default_rng(0)
    rows = [
        {N: n, "random_seed": seed, "group": "a", "accuracy": mean + noise * random.normal()}
        for n, mean in means.items()
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows)


def test_a_curve_of_the_theory_is_found_and_its_held_out_end_predicted():
    counts = [1, 2, 3, 4, 6, 8]
    (found,) = laws.vision_tokens(table({n: float(token_score(n, 0.2, 3.0, 0.9)) for n in counts}), ["accuracy"])
    assert found["held_from"] == 6
    best = {law["form"]: law for law in found["laws"]}["vision_tokens"]
    assert best["values"] == pytest.approx({"c": 0.2, "n_b": 3.0, "beta": 0.9}, rel=0.02)
    assert best["held_out_error"] < 1e-3
    assert {law["form"]: law["held_out_error"] > 0.003 for law in found["laws"]} == {
        "power": True, "log_linear": True, "saturating": True, "quadratic_loglog": False, "vision_tokens": False,
    }  # fmt: skip
    assert best["curve"]["y"][0] == pytest.approx(0.2, rel=1e-3)
    assert (best["curve"]["x"][0], best["curve"]["x"][-1]) == (1, 8)


def test_the_rise_is_paired_over_random_seeds_and_falls_are_named():
    """The seeds differ by .2 everywhere: their luck cancels in the rise, not in the means."""
    rows = pd.DataFrame(
        {N: [1, 1, 2, 2, 3, 3, 1], "random_seed": [0, 1] * 3 + [2], "accuracy": [0.3, 0.5, 0.9, 0.9, 0.7, 0.92, 0.4]}
    )
    (found,) = laws.vision_tokens(rows, ["accuracy"])
    assert [row["mean"] for row in found["means"]] == pytest.approx([0.4, 0.9, 0.81])
    assert [row["standard_error"] for row in found["means"]] == pytest.approx([0.1 / np.sqrt(3), 0.0, 0.11])
    half = stats.t.ppf(0.95, 1) * 0.01
    assert found["rise"] == {
        "difference": pytest.approx(0.41), "low": pytest.approx(0.41 - half), "high": pytest.approx(0.41 + half),
        "pairs": 2, "falls": [[2, 3]],
    }  # fmt: skip


def test_one_seed_has_no_interval_and_zeros_no_law():
    (found,) = laws.vision_tokens(table({1: 0.0, 2: 0.5, 3: 0.6}, seeds=1), ["accuracy"])
    assert found["rise"] == {"difference": 0.6, "low": None, "high": None, "pairs": 1, "falls": []}
    assert found["laws"] == []
    assert "0 has no logarithm" in found["sentence"]
    with pytest.raises(InputError, match=r"2 different task\.vision_tokens"):
        laws.vision_tokens(table({1: 0.1, 2: 0.5}), ["accuracy"])


def test_more_vision_tokens_are_finer():
    rows = table({1: 2.0, 2: 1.5, 3: 1.0}, noise=0.01).rename(columns={"accuracy": "test_loss"})
    found = laws.paired_differences(rows, N, group="group")
    assert [(row["from"], row["to"], row["verdict"]) for row in found] == [(1, 2, "lower"), (2, 3, "lower")]


def test_the_kept_comparison_has_all_published_curves():
    kept = laws.published_vlm()
    assert len(kept) == 36
    fits = laws.published("vlm_fits").set_index(["variant", "metric"])
    for curve in kept:
        printed = fits.loc[(curve["variant"], curve["metric"])]
        assert curve["published"] == {"c": printed["c"], "alpha": printed["alpha"]}
        # the published fit is least squares of logs over all points, ours of the power form the same
        power = next(law for law in curve["laws"] if law["form"] == "power")
        assert power["values"]["exponent"] == pytest.approx(printed["alpha"], rel=5e-3)
    best = [curve["laws"][0]["form"] for curve in kept]
    assert best.count("vision_tokens") == 0


@pytest.mark.slow
def test_the_kept_comparison_is_what_is_fitted_again():
    rows = laws.published("vlm").query("variant == 'vqq' and metric in ['Overall@POPE', 'Final Score@OCRBench']")
    forms = ("power", "vision_tokens", "log_linear", "saturating", "quadratic_loglog")
    again = fit_published_vlm(laws.compare(rows, "vision_tokens", "score", forms, ["variant", "metric"], held_from=256))
    kept = {(curve["variant"], curve["metric"]): curve for curve in laws.published_vlm()}
    assert len(again) == 2
    for curve in again:
        for new, old in zip(curve["laws"], kept[curve["variant"], curve["metric"]]["laws"], strict=True):
            assert new["form"] == old["form"]
            assert new["aicc"] == pytest.approx(old["aicc"], abs=0.05)
            assert new["held_out_error"] == pytest.approx(old["held_out_error"], rel=0.02)
