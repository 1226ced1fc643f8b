"""The test a law must pass before it is used: fitted to the coarse points, does it predict the finest?"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from patchscale.laws.band import mean_offsets, prediction_offsets
from patchscale.laws.search import search
from patchscale.laws.solver import Problem, link, to_values, unlink


def finest(problem: Problem) -> np.ndarray:
    """[n] booleans of the points to hold out: the largest x, or for several axes the tenth with the largest product."""
    size = np.sum([np.log(axis[0]) for axis in problem.axes], axis=0)
    if len(problem.axes) == 1:
        return size >= size.max() - 1e-12
    return size >= np.quantile(size, 0.9)


def hold_out(
    problem: Problem,
    confidence: float,
    *,
    held: np.ndarray | None = None,
    starts: int = 512,
    polish: int = 24,
    interval: bool = True,
) -> dict | None:
    """Fits without the held-out points and predicts them.

    Args:
        problem: all data, leading dimension 1.
        confidence: of the prediction interval.
        held: [n] booleans; the finest points if None.
        starts, polish: as for `fit`.
        interval: also the prediction interval (else "low", "high", "inside" are None).

    Returns:
        None if fewer distinct x would be left than the form has parameters; else JSON-able: "x" (one list per axis),
        "observed", "predicted", "low", "high" (prediction interval, None where open), "relative_error" (mean of
        |predicted / observed - 1|), "inside" (share of held-out points inside), "points", "sentence". Values are of the
        fitted quantity.
    """
    held = finest(problem) if held is None else held
    left = np.stack([axis[0, ~held] for axis in problem.axes], axis=1)
    if held.all() or not held.any() or len(np.unique(left, axis=0)) < len(problem.form.parameters):
        return None
    coarse = replace(
        problem,
        axes=tuple(axis[:, ~held] for axis in problem.axes),
        y=problem.y[:, ~held],
        weights=problem.weights[:, ~held],
    )
    best = search(coarse, starts=starts, polish=polish)
    if not np.isfinite(best.cost):
        return None
    axes = tuple(axis[0, held] for axis in problem.axes)
    observed = problem.y[0, held]
    predicted = problem.form(axes, to_values(problem.form, best.place))
    with np.errstate(invalid="ignore", divide="ignore"):  # a form may leave its domain beyond the points it was given
        centre = link(predicted, problem.space, problem.bound)
    down = up = np.full(len(centre), np.nan)
    if interval:
        scatter = prediction_offsets(coarse, best.place, confidence)
        down, up = (np.hypot(end, scatter) for end in mean_offsets(coarse, best.place, axes, confidence))
    low, high = (unlink(end, problem.space, problem.bound) for end in (centre - down, centre + up))
    with np.errstate(all="ignore"):
        error = float(np.mean(np.abs(predicted / observed - 1)))
    inside = None if np.isnan(low).any() else float(np.mean((observed >= low) & (observed <= high)))
    count = int(held.sum())
    which, them = ("the finest point", "it") if count == 1 else (f"the {count} finest points", "them")
    words = f"fitted without {which}, the law predicts {them} to {100 * error:.2g} %"
    if inside is not None:
        words += f", {round(inside * count)} of {count} inside its {100 * confidence:g} % prediction interval"
    return {
        "x": [[float(value) for value in axis] for axis in axes],
        "observed": [float(value) for value in observed],
        "predicted": [_plain(value) for value in predicted],
        "low": [_plain(value) for value in low],
        "high": [_plain(value) for value in high],
        "relative_error": _plain(error),
        "inside": inside,
        "points": int(held.sum()),
        "sentence": words,
    }


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
