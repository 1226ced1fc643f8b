"""Many small least-squares fits side by side: Levenberg-Marquardt with box bounds and a summed (never averaged) loss.

Shapes: S fits, n points, m parameters. Starts, profile points, bootstrap draws and simulated tables are all just more
rows of S, so one vectorised routine serves them all. Parameters move in the optimiser's coordinates (logarithm where
the form says so); a fit may hold some of them fixed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from patchscale.laws.forms import Form


@dataclass(frozen=True)
class Problem:
    """Data of S fits of one form.

    Attributes:
        form: what is fitted.
        axes: one array [1, n] or [S, n] per axis.
        y: [1, n] or [S, n].
        weights: [1, n] or [S, n], multiplied into each point's loss.
        space: residuals are differences of log(y), y or logit(y / bound).
        huber: threshold of the Huber loss in that space; None for squared.
        bound: upper end of a bounded metric, for "logit".
        least_variance: residual variance below which a fit is luck, not precision (rounding of printed values).
    """

    form: Form
    axes: tuple[np.ndarray, ...]
    y: np.ndarray
    weights: np.ndarray
    space: str = "log"
    huber: float | None = None
    bound: float = 1.0
    least_variance: float = 0.0

    def rows(self, index: np.ndarray) -> Problem:
        """The fits `index` alone."""

        def take(array: np.ndarray) -> np.ndarray:
            return array[index] if len(array) > 1 else array

        return replace(self, axes=tuple(take(a) for a in self.axes), y=take(self.y), weights=take(self.weights))

    def residuals(self, moved: np.ndarray) -> np.ndarray:
        """[S, n] residuals at the optimiser's coordinates [S, m]; NaN where the form has no value there."""
        value = self.form(self.axes, to_values(self.form, moved))
        with np.errstate(all="ignore"):
            return link(value, self.space, self.bound) - link(self.y, self.space, self.bound)

    def cost(self, residuals: np.ndarray) -> np.ndarray:
        """[S] summed loss (half the squared sum, or Huber); infinite where a residual is not finite."""
        with np.errstate(all="ignore"):
            loss = 0.5 * residuals**2
            if self.huber is not None:
                size = np.abs(residuals)
                loss = np.where(size <= self.huber, loss, self.huber * (size - 0.5 * self.huber))
            total = np.sum(self.weights * loss, axis=1)
        return np.where(np.isfinite(total), total, np.inf)


def link(value: np.ndarray, space: str, bound: float = 1.0) -> np.ndarray:
    """The space in which residuals are taken."""
    if space == "log":
        return np.log(value)
    if space == "logit":
        return np.log(value / (bound - value))
    return np.asarray(value)


def unlink(value: np.ndarray, space: str, bound: float = 1.0) -> np.ndarray:
    """Inverse of `link`."""
    with np.errstate(over="ignore"):
        if space == "log":
            return np.exp(value)
        if space == "logit":
            return bound / (1 + np.exp(-value))
    return np.asarray(value)


def to_values(form: Form, moved: np.ndarray) -> np.ndarray:
    """Optimiser's coordinates -> parameter values, shape kept ([..., m])."""
    is_log = np.array([parameter.log for parameter in form.parameters])
    with np.errstate(over="ignore"):
        return np.where(is_log, np.exp(np.where(is_log, moved, 0.0)), moved)


def to_moved(form: Form, values: np.ndarray) -> np.ndarray:
    """Parameter values -> optimiser's coordinates, shape kept ([..., m])."""
    is_log = np.array([parameter.log for parameter in form.parameters])
    return np.where(is_log, np.log(np.where(is_log, values, 1.0)), values)


def bounds(form: Form) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds [m] of the optimiser's coordinates."""
    low, high = [], []
    for parameter in form.parameters:
        if parameter.log:
            low.append(np.log(parameter.low) if parameter.low > 0 else -460.0)
            high.append(np.log(parameter.high) if np.isfinite(parameter.high) else 460.0)
        else:
            low.append(parameter.low)
            high.append(parameter.high)
    return np.array(low), np.array(high)


def minimise(
    problem: Problem,
    start: np.ndarray,
    *,
    free: np.ndarray | None = None,
    max_steps: int = 300,
    tolerance: float = 1e-14,
) -> tuple[np.ndarray, np.ndarray]:
    """Levenberg-Marquardt from every start at once.

    Args:
        problem: data; its leading dimension is 1 or that of `start`.
        start: [S, m] in the optimiser's coordinates.
        free: [S, m] False where a parameter is held; all free if None.
        max_steps: at most so many tried steps per fit.
        tolerance: a fit ends when a step's relative gain and predicted gain are both below it.

    Returns:
        ([S, m] coordinates, [S] costs); the cost is infinite where the start itself has no value.
    """
    low, high = bounds(problem.form)
    place = np.clip(np.array(start, dtype=float), low, high)
    free = np.ones_like(place, dtype=bool) if free is None else np.broadcast_to(free, place.shape)
    residual = problem.residuals(place)
    cost = problem.cost(residual)
    damping = np.full(len(place), 1e-3)
    quiet = np.zeros(len(place), dtype=int)
    live = np.flatnonzero(np.isfinite(cost))
    for _ in range(max_steps):
        if not len(live):
            break
        here = problem.rows(live)
        normal, gradient = normal_equations(here, place[live], residual[live], low, high)
        held = ~free[live]
        held |= (place[live] <= low) & (gradient > 0)
        held |= (place[live] >= high) & (gradient < 0)
        step, predicted = _damped_step(normal, gradient, held, damping[live])
        trial = np.clip(place[live] + step, low, high)
        trial_residual = here.residuals(trial)
        trial_cost = here.cost(trial_residual)
        better = trial_cost < cost[live]
        gain = np.where(better, cost[live] - trial_cost, 0.0)
        small = np.maximum(gain, predicted) <= tolerance * np.maximum(cost[live], 1e-26)
        taken = live[better]
        place[taken], residual[taken], cost[taken] = trial[better], trial_residual[better], trial_cost[better]
        damping[live] = np.where(better, np.maximum(damping[live] * 0.2, 1e-15), damping[live] * 6.0)
        quiet[live] = np.where(small, quiet[live] + 1, 0)
        live = live[(quiet[live] < 2) & (damping[live] < 1e13)]
    return place, cost


def normal_equations(problem, place, residual, low, high):
    """J'WJ [S, m, m] and J'Wr [S, m] with central differences and, for Huber, the weights of the current residuals."""
    count, size = place.shape
    width = 1e-6 * np.maximum(1e-2, np.abs(place))
    moves = np.eye(size)[:, None, :] * width
    sides = np.stack([np.minimum(place + moves, high), np.maximum(place - moves, low)])
    everywhere = problem.rows(np.tile(np.arange(count), 2 * size))
    values = everywhere.residuals(sides.reshape(-1, size)).reshape(2, size, count, -1)
    span = np.einsum("isi->is", sides[0] - sides[1])
    with np.errstate(all="ignore"):
        jacobian = np.moveaxis((values[0] - values[1]) / np.where(span > 0, span, 1.0)[:, :, None], 0, 2)
    jacobian = np.where(np.isfinite(jacobian), jacobian, 0.0)
    weights = np.broadcast_to(problem.weights, residual.shape)
    if problem.huber is not None:
        weights = weights * np.minimum(1.0, problem.huber / np.maximum(np.abs(residual), 1e-300))
    weighted = jacobian * weights[:, :, None]
    return np.einsum("sni,snj->sij", weighted, jacobian), np.einsum("sni,sn->si", weighted, residual)


def _damped_step(normal, gradient, held, damping):
    """The step [S, m] of the damped equations over the parameters not held, and the gain [S] it promises."""
    size = normal.shape[-1]
    diagonal = np.einsum("sii->si", normal)
    scale = np.sqrt(np.where(held | (diagonal <= 0), 1.0, diagonal))
    both = held[:, :, None] | held[:, None, :]
    system = np.where(both, 0.0, normal / (scale[:, :, None] * scale[:, None, :]))
    target = np.where(held, 0.0, -gradient / scale)
    index = np.arange(size)
    system[:, index, index] = np.where(held | (diagonal <= 0), 1.0, 1.0 + damping[:, None])
    solved = np.linalg.solve(system, target[:, :, None])[:, :, 0]
    return solved / scale, 0.5 * np.sum(solved * (target + damping[:, None] * solved), axis=1)
