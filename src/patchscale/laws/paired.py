"""Does a finer patch help? Differences between neighbours over equal random seeds, and the inversions by name."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import stats

from patchscale.errors import InputError
from patchscale.laws.table import as_names, describe, need_columns, numbers, split


def paired_differences(
    table: pd.DataFrame,
    by: str = "patch_size",
    group: str | Sequence[str] = ("model", "input_size"),
    pair: str = "random_seed",
    y: str = "test_loss",
    confidence: float = 0.9,
    *,
    lower_is_better: bool = True,
) -> list[dict]:
    """Differences of `y` between neighbouring values of `by`, from coarse to fine, paired over `pair`.

    Args:
        table: one row a trial.
        by: what is refined; neighbours run from the largest patch size to the smallest, and for any other column from
            fewer (tokens, pixels) to more.
        group: columns whose values are compared separately.
        pair: column whose equal values make a pair.
        y: the metric.
        confidence: of the paired t interval.
        lower_is_better: False for scores.

    Returns:
        One dict per refinement: "group", "from", "to", "pairs", "difference" (mean of to minus from), "low", "high"
        (None with fewer than two pairs), "verdict" ("lower": the refinement helps; "inversion": it harms; "undecided":
        the interval holds zero or there is none), "sentence".

    Raises:
        InputError: a column is missing or not finite, or one group holds two rows of equal `by` and `pair`.
    """
    group = as_names(group)
    need_columns(table, [*group, pair])
    result = []
    for values, part in split(table, group):
        part = part.assign(**{y: numbers(part, y, positive=False), by: numbers(part, by)})
        twice = part.duplicated([by, pair])
        if twice.any():
            row = part[twice].iloc[0]
            raise InputError(
                f"two rows of {describe(values) or 'the table'} have {by} {row[by]:g} and {pair} {row[pair]}; "
                "name what separates them in the group"
            )
        wide = part.pivot(index=pair, columns=by, values=y)
        sizes = sorted(wide.columns, reverse=by == "patch_size")
        for coarse, fine in pairwise(sizes):
            gaps = (wide[fine] - wide[coarse]).dropna().to_numpy()
            result.append(
                _difference(values, by, y, pair, float(coarse), float(fine), gaps, confidence, lower_is_better)
            )
    return result


def _difference(group, by, y, pair, coarse, fine, gaps, confidence, lower_is_better) -> dict:
    where = f"{describe(group)}: " if group else ""
    step = f"{by} {coarse:g} -> {fine:g}"
    plain = {"group": group, "from": _whole(coarse), "to": _whole(fine), "pairs": len(gaps)}
    if not len(gaps):
        text = f"{where}{step}: no {pair} in common, so no difference."
        return {**plain, "difference": None, "low": None, "high": None, "verdict": "undecided", "sentence": text}
    mean = float(gaps.mean())
    start = f"{where}{step} changes {y} by {mean:+.4g}"
    if len(gaps) < 2:
        text = f"{start} ({len(gaps)} pair: no interval, undecided)."
        return {**plain, "difference": mean, "low": None, "high": None, "verdict": "undecided", "sentence": text}
    half = float(stats.t.ppf(0.5 + confidence / 2, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps)))
    low, high = mean - half, mean + half
    better, worse = (high < 0, low > 0) if lower_is_better else (low > 0, high < 0)
    verdict = "lower" if better else "inversion" if worse else "undecided"
    words = {
        "lower": "the refinement helps",
        "inversion": "an inversion: the finer one is worse",
        "undecided": "the interval holds zero, so undecided",
    }[verdict]
    text = f"{start} ({100 * confidence:g} % paired interval {low:+.4g} to {high:+.4g}, {len(gaps)} pairs): {words}."
    return {**plain, "difference": mean, "low": low, "high": high, "verdict": verdict, "sentence": text}


def _whole(value: float) -> int | float:
    return int(value) if value == int(value) else value
