"""Empirical minimum description length: the fewest tokens with which a model stays within a tolerance of its best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from patchscale.errors import InputError
from patchscale.laws.table import as_names, describe, need_columns, numbers, split


def minimum_tokens(
    table: pd.DataFrame,
    tolerance: float = 1.0,
    group: str | Sequence[str] = "model",
    x: str = "tokens_kept",
    y: str = "top1",
    *,
    full: Mapping[Any, float] | float | None = None,
    relative: bool = False,
    lower_is_better: bool = False,
    pair: str = "random_seed",
    confidence: float = 0.9,
    draws: int = 2000,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """K*(model, tolerance) = min {K : quality(K) >= quality(all tokens) - tolerance}.

    Between measured K the quality is interpolated linearly, which reproduces the published 117 of ViT-B (2511.19515,
    tolerance one point).

    Args:
        table: one row per trial.
        tolerance: allowed loss of quality in the units of `y`, or as a fraction of the full value if `relative`.
        group: columns that separate models; the value (or tuple) is the key of `full`.
        x: tokens kept.
        y: quality; turned round if `lower_is_better`.
        full: quality with all tokens, per model or one for all; from the row of the largest x if None.
        pair: random seeds; the interval is a bootstrap over them.
        confidence, draws, seed: of that bootstrap.

    Returns:
        One JSON-able dict per model: "group", "full", "tokens" (interpolated; None if never reached), "tokens_up"
        (rounded up), "low", "high" (None without two seeds, or where draws do not reach it), "seeds", "sentence".

    Raises:
        InputError: a column is missing or not positive, or `full` lacks a model.
    """
    names, result = as_names(group), []
    need_columns(table, names)
    for values, part in split(table, names):
        sign = -1.0 if lower_is_better else 1.0
        points = np.stack([numbers(part, x), sign * numbers(part, y, positive=False)], axis=1)
        which = part[pair].to_numpy() if pair in part.columns else np.zeros(len(part))
        seeds = list(pd.unique(which))
        curves = [points[which == value] for value in seeds]
        best = _full(full, values, sign)
        level = _mean_curve(curves)
        found, target = _reach(level, best, tolerance, relative)
        low = high = None
        if len(seeds) > 1:
            generator = np.random.default_rng(seed)
            picks = generator.integers(0, len(seeds), size=(draws, len(seeds)))
            spread = [_reach(_mean_curve([curves[i] for i in pick]), best, tolerance, relative)[0] for pick in picks]
            tail = (1 - confidence) / 2
            filled = np.array([np.inf if value is None else value for value in spread])
            ends = np.quantile(filled, [tail, 1 - tail], method="nearest")
            low, high = (float(end) if np.isfinite(end) else None for end in ends)
        result.append(
            {
                "group": values,
                "full": sign * (target[0]),
                "tolerance": tolerance,
                "tokens": found,
                "tokens_up": None if found is None else int(np.ceil(found - 1e-9)),
                "low": low,
                "high": high,
                "seeds": len(seeds),
                "sentence": _sentence(values, x, y, found, low, high, len(seeds), tolerance, relative, confidence),
            }
        )
    return result


def _full(full, values: dict, sign: float) -> float | None:
    if full is None or isinstance(full, int | float):
        return None if full is None else sign * float(full)
    key = next(iter(values.values())) if len(values) == 1 else tuple(values.values())
    if key not in full:
        raise InputError(f"no full-token value for {describe(values)}; known: {', '.join(map(str, full))}")
    return sign * float(full[key])


def _mean_curve(curves: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Distinct x of all rows [n, 2] and their mean quality."""
    rows = np.concatenate(curves)
    places, which = np.unique(rows[:, 0], return_inverse=True)
    return places, np.bincount(which, rows[:, 1]) / np.bincount(which)


def _reach(curve, best: float | None, tolerance: float, relative: bool) -> tuple[float | None, tuple[float, float]]:
    """The smallest interpolated x whose quality is within the tolerance, and (full quality, needed quality)."""
    places, quality = curve
    best = float(quality[-1]) if best is None else best
    needed = best - (tolerance * abs(best) if relative else tolerance)
    above = np.flatnonzero(quality >= needed)
    if not len(above):
        return None, (best, needed)
    index = int(above[0])
    if index == 0:
        return float(places[0]), (best, needed)
    share = (needed - quality[index - 1]) / (quality[index] - quality[index - 1])
    return float(places[index - 1] + share * (places[index] - places[index - 1])), (best, needed)


def _sentence(values, x, y, found, low, high, seeds, tolerance, relative, confidence) -> str:
    who = describe(values) or "the model"
    within = f"{100 * tolerance:g} %" if relative else f"{tolerance:g}"
    if found is None:
        return f"{who} does not come within {within} of its full {y} at any measured {x}."
    if seeds < 2:
        return f"{who} needs {x} = {found:.4g} to come within {within} of its full {y} (one seed: no interval)."
    words = " to ".join("no end" if end is None else f"{end:.4g}" for end in (low, high))
    return (
        f"{who} needs {x} = {found:.4g} to come within {within} of its full {y} "
        f"({100 * confidence:g} % bootstrap interval over {seeds} seeds: {words})."
    )
