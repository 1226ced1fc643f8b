"""Profile-likelihood intervals: how far a quantity may move before the best fit of everything else gets too bad.

"Too bad" is the F cutoff: with residual variance estimated from n points and m parameters, the loss may rise by
F(1, n - m) times that variance. With few points this covers where a plain bootstrap under-covers. For the Huber loss
the rise is scaled by mean(psi^2) / mean(psi'), the ratio that makes the test of an M-estimator comparable (Hampel et
al. 1986, section 7.2). An interval that never closes before the parameter's bound is reported as open, not cut off.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from patchscale.laws.search import better_start
from patchscale.laws.solver import Problem, bounds, minimise, normal_equations
from patchscale.laws.walk import walk_to


def allowed_rise(problem: Problem, place: np.ndarray, cost: np.ndarray, confidence: float) -> np.ndarray:
    """[S] rise of the summed loss at which an interval of that confidence ends; infinite without spare points."""
    spare = degrees_of_freedom(problem)
    if spare <= 0:
        return np.full(len(place), np.inf)
    cutoff = stats.f.ppf(confidence, 1, spare) / 2
    return cutoff * noise_scale(problem, place)


def degrees_of_freedom(problem: Problem) -> int:
    """Points of positive weight minus parameters."""
    return int(np.sum(problem.weights[0] > 0)) - len(problem.form.parameters)


def noise_scale(problem: Problem, place: np.ndarray) -> np.ndarray:
    """[S] what one unit of the F statistic costs: the residual variance for squared loss, its robust analogue for
    Huber."""
    residual = problem.residuals(place)
    weights = np.broadcast_to(problem.weights, residual.shape)
    spare = max(degrees_of_freedom(problem), 1)
    if problem.huber is None:
        return np.maximum(np.sum(weights * residual**2, axis=1) / spare, problem.least_variance)
    slope = np.clip(residual, -problem.huber, problem.huber)
    spread = 1.4826 * np.median(np.abs(residual), axis=1, keepdims=True)
    width = np.maximum(problem.huber, spread * residual.shape[1] ** -0.2)
    rise = np.clip(residual + width, -problem.huber, problem.huber) - np.clip(
        residual - width, -problem.huber, problem.huber
    )
    curvature = np.mean(rise / (2 * width), axis=1)
    return np.sum(weights * slope**2, axis=1) / spare / np.maximum(curvature, 1e-12)


def parameter_intervals(
    problem: Problem, place: np.ndarray, cost: np.ndarray, rise: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Intervals of every parameter of S fits.

    Args:
        problem: data of S fits.
        place: [S, m] optima in the optimiser's coordinates.
        cost: [S] their losses.
        rise: [S] from `allowed_rise`.

    Returns:
        lows [S, m], highs [S, m] in the optimiser's coordinates (the bound itself where open), and open_low, open_high
        [S, m] booleans: the interval reached the parameter's bound without closing.
    """
    count, size = place.shape
    low, high = bounds(problem.form)
    ends = []
    for sign, limit in ((-1.0, low), (1.0, high)):
        rows = np.repeat(np.arange(count), size)
        which = np.tile(np.arange(size), count)
        wide = problem.rows(rows)
        free = np.ones((len(rows), size), dtype=bool)
        free[np.arange(len(rows)), which] = False
        centre = place[rows, which]
        reach = np.abs(limit[which] - centre)

        def evaluate(live, offset, near, thorough, wide=wide, free=free, which=which, centre=centre, sign=sign):
            start = near.copy()
            start[np.arange(len(live)), which[live]] = centre[live] + sign * offset
            for index, name in enumerate(problem.form.names):
                same = np.flatnonzero(which[live] == index)
                if len(same):
                    start[same] = better_start(wide.rows(live[same]), start[same], name, spread=16 if thorough else 0)
            return minimise(wide.rows(live), start, free=free[live], max_steps=200, tolerance=1e-9)

        first = np.maximum(_guess(problem, place, rise), 1e-9)[rows, which]
        offset, opened = walk_to(evaluate, place[rows], cost[rows], rise[rows], first, reach)
        ends.append(((centre + sign * offset).reshape(count, size), opened.reshape(count, size)))
    return ends[0][0], ends[1][0], ends[0][1], ends[1][1]


def _guess(problem: Problem, place: np.ndarray, rise: np.ndarray) -> np.ndarray:
    """[S, m] half-widths from the curvature at the optimum."""
    inverse = np.linalg.pinv(curvature(problem, place), hermitian=True)
    variance = np.einsum("sii->si", inverse)
    return np.sqrt(2 * rise[:, None] * np.maximum(variance, 0.0))


def curvature(problem: Problem, place: np.ndarray) -> np.ndarray:
    """[S, m, m] J'WJ of the residuals at `place`."""
    low, high = bounds(problem.form)
    return normal_equations(problem, place, problem.residuals(place), low, high)[0]
