"""Profile-likelihood intervals: how far a quantity may move before the best fit of everything else gets too bad.

"Too bad" is the F cutoff: with residual variance estimated from n points and m parameters, the loss may rise by
F(1, n - m) times that variance. With few points this covers where a plain bootstrap under-covers. For the Huber loss
the rise is scaled by mean(psi^2) / mean(psi'), the ratio that makes the test of an M-estimator comparable (Hampel et
al. 1986, section 7.2). An interval that never closes before the parameter's bound is reported as open, not cut off.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import stats

from patchscale.laws.search import better_start
from patchscale.laws.solver import Problem, bounds, minimise, normal_equations

Evaluate = Callable[[np.ndarray, np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


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

        def evaluate(live, offset, near, wide=wide, free=free, which=which, centre=centre, sign=sign):
            start = near.copy()
            start[np.arange(len(live)), which[live]] = centre[live] + sign * offset
            for index, name in enumerate(problem.form.names):
                same = np.flatnonzero(which[live] == index)
                if len(same):
                    start[same] = better_start(wide.rows(live[same]), start[same], name)
            return minimise(wide.rows(live), start, free=free[live], max_steps=60, tolerance=1e-9)

        first = np.maximum(_guess(problem, place, rise), 1e-9)[rows, which]
        offset, opened = walk_to(evaluate, place[rows], cost[rows], rise[rows], first, reach)
        ends.append(((centre + sign * offset).reshape(count, size), opened.reshape(count, size)))
    return ends[0][0], ends[1][0], ends[0][1], ends[1][1]


def walk_to(
    evaluate: Evaluate, place: np.ndarray, cost: np.ndarray, rise: np.ndarray, first: np.ndarray, reach: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Offsets at which the profiled loss has risen by `rise`: growing steps, then false position on its square root.

    Args:
        evaluate: (rows, offsets, nearby places) -> (places, losses) with the quantity held at its offset.
        place, cost: the optimum of every row.
        rise: rise that ends the interval.
        first: first offset to try.
        reach: largest offset allowed (may be infinite).

    Returns:
        (offsets, opened): `opened` where even `reach` (tried second), or 1e4 times the first step, does not raise the
        loss enough.
    """
    count = len(first)
    rows = np.arange(count)
    inner, inner_root = np.zeros(count), np.zeros(count)
    outer, outer_root = np.minimum(first, reach), np.full(count, np.nan)
    near, far = place.copy(), place.copy()
    opened = (reach <= 0) | ~np.isfinite(rise)
    live = rows[~opened]
    for step in range(24):
        if step == 1:
            limited = live[np.isfinite(reach[live])]
            if len(limited):
                _, loss = evaluate(limited, reach[limited], near[limited])
                opened[limited] = _root(loss - cost[limited], rise[limited]) < 1
                live = live[~opened[live]]
        if not len(live):
            break
        found, loss = evaluate(live, outer[live], near[live])
        root = _root(loss - cost[live], rise[live])
        closed = root >= 1
        outer_root[live[closed]], far[live[closed]] = root[closed], found[closed]
        still = live[~closed]
        near[still], inner[still], inner_root[still] = found[~closed], outer[still], root[~closed]
        at_end = (inner[still] >= reach[still]) | (inner[still] > 1e4 * first[still])
        opened[still[at_end]] = True
        live = still[~at_end]
        slope = np.maximum(inner_root[live], 0.2)
        outer[live] = np.minimum(inner[live] * np.clip(1.15 / slope, 1.3, 4.0), reach[live])
    opened[live] = True
    live = rows[~opened]
    for _ in range(12):
        width = outer[live] - inner[live]
        live = live[(width > 1e-5 * outer[live]) & (np.abs(outer_root[live] - 1) > 1e-4)]
        if not len(live):
            break
        share = (1 - inner_root[live]) / np.where(
            np.isfinite(outer_root[live]), outer_root[live] - inner_root[live], 2.0
        )
        share = np.clip(np.where(np.isfinite(share), share, 0.5), 0.05, 0.98)
        middle = inner[live] + share * (outer[live] - inner[live])
        found, loss = evaluate(live, middle, near[live])
        root = _root(loss - cost[live], rise[live])
        over = root >= 1
        outer[live[over]], outer_root[live[over]], far[live[over]] = middle[over], root[over], found[over]
        inner[live[~over]], inner_root[live[~over]], near[live[~over]] = middle[~over], root[~over], found[~over]
    return np.where(opened, np.where(np.isfinite(reach), reach, inner), outer), opened


def _root(gain: np.ndarray, rise: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.sqrt(np.maximum(gain, 0.0) / np.maximum(rise, 1e-300))


def _guess(problem: Problem, place: np.ndarray, rise: np.ndarray) -> np.ndarray:
    """[S, m] half-widths from the curvature at the optimum."""
    inverse = np.linalg.pinv(curvature(problem, place), hermitian=True)
    variance = np.einsum("sii->si", inverse)
    return np.sqrt(2 * rise[:, None] * np.maximum(variance, 0.0))


def curvature(problem: Problem, place: np.ndarray) -> np.ndarray:
    """[S, m, m] J'WJ of the residuals at `place`."""
    low, high = bounds(problem.form)
    return normal_equations(problem, place, problem.residuals(place), low, high)[0]
