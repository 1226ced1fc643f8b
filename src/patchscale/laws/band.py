"""Intervals of a fitted curve: how far may the curve move at one x before the rest of the fit gets too bad.

For the squared loss each end is a profile likelihood: the curve is pulled to a value at x by one very heavy extra
point, everything is refitted, and the value at which the loss has risen by the F cutoff is the end. So a curve whose
parameters are not identified still gets a correct interval. An end more than a factor exp(5) away counts as none. For
the Huber loss the end comes from the curvature at the optimum.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import stats

from patchscale.laws.profile import allowed_rise, curvature, degrees_of_freedom, noise_scale
from patchscale.laws.search import better_start
from patchscale.laws.solver import Problem, bounds, link, minimise, normal_equations, to_values, unlink
from patchscale.laws.walk import walk_to

_PULL = 1e4
_FARTHEST = 5.0


def mean_offsets(
    problem: Problem, place: np.ndarray, axes: tuple[np.ndarray, ...], confidence: float
) -> tuple[np.ndarray, np.ndarray]:
    """How far below and above the fitted curve its interval reaches, in the space of the residuals.

    Args:
        problem: the fitted data, leading dimension 1.
        place: [m] optimum.
        axes: one [k] array per axis: where.
        confidence: of the interval.

    Returns:
        ([k] below, [k] above); infinite where open, NaN without spare points.
    """
    count = len(axes[0])
    if degrees_of_freedom(problem) <= 0:
        return np.full(count, np.nan), np.full(count, np.nan)
    one = place[None, :]
    cost = problem.cost(problem.residuals(one))
    rise = allowed_rise(problem, one, cost, confidence)
    half = _half_width(problem, place, axes, float(rise[0]))
    if problem.huber is not None:
        return half, half
    centre = link(problem.form(axes, to_values(problem.form, place)), problem.space, problem.bound)
    pulled = _with_extra_point(problem, axes)
    repeat = np.ones(count)
    ends = []
    for sign in (-1.0, 1.0):

        def evaluate(live, offset, near, thorough, sign=sign):
            here = pulled.rows(live)
            y = here.y.copy()
            y[:, -1] = unlink(centre[live] + sign * offset, problem.space, problem.bound)
            pulled_to = replace(here, y=y)
            found, _ = minimise(
                pulled_to, better_start(pulled_to, near, spread=16 if thorough else 0), max_steps=200, tolerance=1e-9
            )
            return found, problem.cost(problem.residuals(found))

        offset, opened = walk_to(
            evaluate,
            np.repeat(one, count, axis=0),
            cost * repeat,
            rise * repeat,
            np.maximum(half, 1e-9),
            np.full(count, _FARTHEST if problem.space != "linear" else np.inf),
        )
        ends.append(np.where(opened, np.inf, offset))
    return ends[0], ends[1]


def prediction_offsets(problem: Problem, place: np.ndarray, confidence: float) -> float:
    """Half-width of the scatter of one more run around the curve, in the space of the residuals."""
    spare = degrees_of_freedom(problem)
    if spare <= 0:
        return float("nan")
    scale = np.sqrt(noise_scale(replace(problem, huber=None), place[None, :])[0])
    return float(stats.t.ppf(0.5 + confidence / 2, spare) * scale)


def _half_width(problem: Problem, place: np.ndarray, axes: tuple[np.ndarray, ...], rise: float) -> np.ndarray:
    """[k] half-widths from the curvature at the optimum (delta method)."""
    low, high = bounds(problem.form)
    count = len(axes[0])
    inverse = np.linalg.pinv(curvature(problem, place[None, :])[0], hermitian=True)
    single = Problem(
        problem.form,
        tuple(axis.reshape(-1, 1) for axis in axes),
        np.full((count, 1), problem.bound / 2),
        np.ones((1, 1)),
        problem.space,
        None,
        problem.bound,
    )
    places = np.repeat(place[None, :], count, axis=0)
    slopes_squared, _ = normal_equations(single, places, single.residuals(places), low, high)
    return np.sqrt(2 * rise * np.maximum(np.einsum("kij,ij->k", slopes_squared, inverse), 0.0))


def _with_extra_point(problem: Problem, axes: tuple[np.ndarray, ...]) -> Problem:
    """The same data for each of k places, with one heavy point at the place."""
    count = len(axes[0])

    def widen(array: np.ndarray, last: np.ndarray) -> np.ndarray:
        return np.concatenate([np.repeat(array, count, axis=0), last.reshape(count, 1)], axis=1)

    heavy = np.full(count, _PULL * float(problem.weights.max()))
    return replace(
        problem,
        axes=tuple(widen(old, new) for old, new in zip(problem.axes, axes, strict=True)),
        y=widen(problem.y, np.ones(count)),
        weights=widen(problem.weights, heavy),
    )
