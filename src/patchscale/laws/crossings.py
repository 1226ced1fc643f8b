"""Where two patch sizes cross in training budget: cut short, the coarse patch wins; trained on, the fine one does."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd

from patchscale.laws.table import as_names, describe, numbers, split


def crossings(
    curves: pd.DataFrame,
    by: str = "patch_size",
    group: str | Sequence[str] = ("model", "input_size"),
    x: str = "train_flops",
    y: str = "test_loss",
    *,
    pair: str = "random_seed",
) -> list[dict]:
    """Crossings of mean learning curves.

    Args:
        curves: one row per measurement along a training: columns `group`, `by`, `pair`, `x`, `y`.
        by: what is compared, pairwise.
        group: columns whose values are compared separately.
        x: the training budget ("train_flops" or "samples").
        y: the metric.
        pair: column that numbers repeated runs; the curves of a `by` are averaged over it, where all of them exist.

    Returns:
        One dict per crossing: "group", "patch_sizes" ([a, b], a the larger), "x", "at", "y", "better_after" (the one
        that is lower beyond), "sentence". Interpolation is linear in log x; curves that never cross in their common
        range give nothing.

    Raises:
        InputError: a column is missing or a value is not finite (not positive for `x`).
    """
    result = []
    for values, part in split(curves, as_names(group)):
        part = part.assign(**{x: numbers(part, x), y: numbers(part, y, positive=False), by: numbers(part, by)})
        means = {float(str(size)): _mean_curve(rows, x, y, pair) for size, rows in part.groupby(by)}
        for a, b in combinations(sorted(means, reverse=True), 2):
            for place, level, after_a in _crossings_of(means[a], means[b]):
                better = a if after_a else b
                where = f"{describe(values)}: " if values else ""
                text = (
                    f"{where}{by} {a:g} and {b:g} cross at {x} {place:.3g} ({y} {level:.4g}); "
                    f"beyond it {better:g} is lower."
                )
                sizes = [_whole(a), _whole(b)]
                result.append(
                    {"group": values, "patch_sizes": sizes, "x": x, "at": place, "y": level,
                     "better_after": _whole(better), "sentence": text}
                )  # fmt: skip
    return result


def _mean_curve(rows: pd.DataFrame, x: str, y: str, pair: str) -> tuple[np.ndarray, np.ndarray]:
    """(log x, mean y) of the runs, on the union of their x within the range all of them cover."""
    runs = [run for _, run in rows.groupby(pair)] if pair in rows.columns else [rows]
    curves = []
    for run in runs:
        ordered = run.drop_duplicates(x, keep="last").sort_values(x)
        curves.append((np.log(ordered[x].to_numpy(dtype=float)), ordered[y].to_numpy(dtype=float)))
    low, high = max(c[0][0] for c in curves), min(c[0][-1] for c in curves)
    places = np.unique(np.concatenate([c[0] for c in curves]))
    places = places[(places >= low) & (places <= high)]
    return places, np.mean([np.interp(places, *curve) for curve in curves], axis=0) if len(places) else places


def _crossings_of(first: tuple[np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray]):
    """(x, y, first is lower beyond) of every sign change of first - second on their common range."""
    if not len(first[0]) or not len(second[0]):
        return
    low, high = max(first[0][0], second[0][0]), min(first[0][-1], second[0][-1])
    places = np.unique(np.concatenate([first[0], second[0], [low, high]]))
    places = places[(places >= low) & (places <= high)]
    gap = np.interp(places, *first) - np.interp(places, *second)
    last = None
    for index in np.flatnonzero(gap):
        if last is not None and gap[last] * gap[index] < 0:
            share = gap[last] / (gap[last] - gap[index])
            place = places[last] + share * (places[index] - places[last])
            yield float(np.exp(place)), float(np.interp(place, *first)), bool(gap[index] < 0)
        last = index


def _whole(value: float) -> int | float:
    return int(value) if value == int(value) else float(value)
