"""Bootstrap of a fit: all draws refitted side by side, printed beside the profile interval (it under-covers on few
points)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from patchscale.laws.solver import Problem, link, minimise, to_values, unlink

CASES_FROM = 50


def bootstrap(problem: Problem, place: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """[draws, m] parameter values.

    From 50 points on rows are drawn with replacement (as counts, so the design is one array); below that the
    residuals are, enlarged by sqrt(n / (n - m)), because a draw without the coarsest x would be another experiment.
    """
    generator = np.random.default_rng(seed)
    n, size = problem.y.shape[1], len(place)
    if n >= CASES_FROM:
        counts = generator.multinomial(n, np.full(n, 1 / n), size=draws)
        drawn = replace(problem, weights=problem.weights * counts)
    else:
        residual = problem.residuals(place[None, :])[0]
        enlarged = (residual - residual.mean()) * np.sqrt(n / max(n - size, 1))
        fitted = link(problem.form(problem.axes, to_values(problem.form, place)[None, :]), problem.space, problem.bound)
        shifted = fitted - enlarged[generator.integers(0, n, size=(draws, n))]
        drawn = replace(problem, y=unlink(shifted, problem.space, problem.bound))
    ends, costs = minimise(drawn, np.repeat(place[None, :], draws, axis=0), max_steps=150, tolerance=1e-8)
    return to_values(problem.form, ends[np.isfinite(costs)])
