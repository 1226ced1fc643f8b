"""Paired differences over random seeds and crossings of learning curves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from patchscale.errors import InputError
from patchscale.laws import crossings, paired_differences


def trials(losses: dict[int, list[float]]) -> pd.DataFrame:
    rows = [("deit_pico", 32, p, seed, loss) for p, values in losses.items() for seed, loss in enumerate(values)]
    return pd.DataFrame(rows, columns=["model", "input_size", "patch_size", "random_seed", "test_loss"])


def test_refinements_get_a_verdict_each():
    table = trials({16: [2.00, 2.10, 1.95], 8: [1.80, 1.91, 1.74], 4: [1.95, 2.04, 1.90], 2: [1.96, 2.02, 1.91]})
    helps, harms, unclear = paired_differences(table)
    assert (helps["from"], helps["to"], helps["pairs"], helps["verdict"]) == (16, 8, 3, "lower")
    gaps = np.array([-0.20, -0.19, -0.21])
    half = 2.919986 * gaps.std(ddof=1) / np.sqrt(3)
    assert helps["difference"] == pytest.approx(gaps.mean())
    assert (helps["low"], helps["high"]) == pytest.approx((gaps.mean() - half, gaps.mean() + half), rel=1e-6)
    assert harms["verdict"] == "inversion"
    assert "inversion" in harms["sentence"]
    assert unclear["verdict"] == "undecided"
    assert unclear["low"] < 0 < unclear["high"]


def test_one_pair_has_no_interval_and_says_so():
    (only,) = paired_differences(trials({8: [2.0], 4: [1.5]}))
    assert (only["low"], only["high"], only["verdict"]) == (None, None, "undecided")
    assert "no interval" in only["sentence"]


def test_only_equal_seeds_are_paired():
    table = trials({8: [2.0, 2.2, 9.0], 4: [1.5, 1.8]})
    (only,) = paired_differences(table)
    assert only["pairs"] == 2
    assert only["difference"] == pytest.approx(-0.45)


def test_scores_turn_the_verdict():
    table = trials({8: [70.0, 71.0, 70.5], 4: [75.0, 76.1, 75.4]}).rename(columns={"test_loss": "top1"})
    assert paired_differences(table, y="top1", lower_is_better=False)[0]["verdict"] == "lower"
    assert paired_differences(table, y="top1")[0]["verdict"] == "inversion"


def test_ambiguous_and_missing_columns_are_named():
    table = pd.concat([trials({8: [2.0], 4: [1.5]})] * 2)
    with pytest.raises(InputError, match="two rows of model=deit_pico, input_size=32 have patch_size 8"):
        paired_differences(table)
    with pytest.raises(InputError, match="no column 'model'"):
        paired_differences(table.drop(columns="model"))


def curves(offsets: dict[int, float]) -> pd.DataFrame:
    rows = []
    for patch_size, slope in {8: 0.2, 4: 0.5}.items():
        for seed in (0, 1):
            for flops in np.geomspace(1e9, 1e12, 30):
                loss = 2 + offsets[patch_size] - slope * np.log10(flops / 1e9) + 0.01 * seed
                rows.append(("m", 32, patch_size, seed, flops, loss))
    return pd.DataFrame(rows, columns=["model", "input_size", "patch_size", "random_seed", "train_flops", "test_loss"])


def test_crossing_lies_where_the_lines_meet():
    (only,) = crossings(curves({8: 0.0, 4: 0.45}))
    assert only["patch_sizes"] == [8, 4]
    assert only["at"] == pytest.approx(1e9 * 10**1.5, rel=1e-6)
    assert only["y"] == pytest.approx(2 - 0.3 + 0.005, rel=1e-6)
    assert only["better_after"] == 4
    assert "cross at train_flops" in only["sentence"]


def test_curves_that_do_not_cross_give_nothing():
    assert crossings(curves({8: 0.5, 4: 0.0})) == []
