"""What the residuals say about a fit: scatter between random seeds, lack of fit, trends, outliers."""

from __future__ import annotations

import numpy as np
from scipy import stats

from patchscale.laws.solver import Problem, to_values


def check_residuals(problem: Problem, place: np.ndarray) -> dict:
    """Checks of one fit, JSON-able.

    Returns:
        rms: root mean square residual in the space of the fit.
        seed_noise: pooled standard deviation between rows of equal x (None without repeats).
        lack_of_fit_p: F test of the curve's misses against seed noise; small means that the form is wrong, not noisy.
        trend_p: Spearman test of residual size against the fitted value (scatter that changes along the curve).
        normal_p: Shapiro-Wilk (None under 8 points).
        outliers: positions of rows more than 4 robust deviations off.
        words: the findings in words, empty if nothing is wrong.
    """
    residual = problem.residuals(place[None, :])[0]
    weights = problem.weights[0]
    size = len(place)
    n = len(residual)
    cells = _cells(problem)
    result: dict = {
        "rms": float(np.sqrt(np.mean(residual**2))),
        "seed_noise": None,
        "lack_of_fit_p": None,
        "trend_p": None,
        "normal_p": None,
        "outliers": [],
        "words": [],
    }
    within = sum(_spread(residual[cell], weights[cell]) for cell in cells)
    spare_within, spare_between = n - len(cells), len(cells) - size
    exact = result["rms"] < 1e-10
    if spare_within > 0:
        result["seed_noise"] = float(np.sqrt(within / spare_within))
        if spare_between > 0 and within > 0:
            misses = max(float(np.sum(weights * residual**2)) - within, 0.0)
            ratio = (misses / spare_between) / (within / spare_within)
            result["lack_of_fit_p"] = float(stats.f.sf(ratio, spare_between, spare_within))
            if result["lack_of_fit_p"] < 0.05:
                result["words"].append("the curve misses the means by more than the random seeds scatter: wrong form")
    if n >= 8 and not exact:
        result["normal_p"] = float(stats.shapiro(residual)[1])
        fitted = problem.form(problem.axes, _values(problem, place))[0]
        if np.ptp(fitted) > 0 and np.ptp(np.abs(residual)) > 0:
            result["trend_p"] = float(np.asarray(stats.spearmanr(np.abs(residual), fitted))[1])
            if result["trend_p"] < 0.01:
                result["words"].append("the scatter changes along the curve: consider weights")
        spread = 1.4826 * np.median(np.abs(residual))
        far = np.flatnonzero(np.abs(residual) > 4 * spread) if spread > 0 else np.array([], dtype=int)
        result["outliers"] = [int(place) for place in far]
        if len(far) and problem.huber is None:
            result["words"].append(f"{len(far)} of {n} points lie more than 4 deviations off: consider loss='huber'")
    return result


def _cells(problem: Problem) -> list[np.ndarray]:
    points = np.stack([axis[0] for axis in problem.axes], axis=1)
    _, which = np.unique(points, axis=0, return_inverse=True)
    which = which.ravel()
    return [np.flatnonzero(which == index) for index in range(which.max() + 1)]


def _spread(values: np.ndarray, weights: np.ndarray) -> float:
    return float(np.sum(weights * (values - np.average(values, weights=weights)) ** 2))


def _values(problem: Problem, place: np.ndarray) -> np.ndarray:
    return to_values(problem.form, place)[None, :]
