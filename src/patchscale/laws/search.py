"""Many starts: spread the nonlinear parameters, solve the linear ones exactly, polish the best, count who agrees.

Public fits of five-parameter laws have gone wrong for want of starts; here thousands are cheap because each start of
the nonlinear parameters fixes the linear ones by a small non-negative least-squares problem (variable projection).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy.stats import qmc

from patchscale.laws.forms import Form
from patchscale.laws.solver import Problem, bounds, minimise, to_moved, to_values


@dataclass(frozen=True)
class Optimum:
    """The best fit found.

    Attributes:
        place: [m] optimiser's coordinates.
        cost: summed loss there.
        searched: starts of the nonlinear parameters for which the linear ones were solved.
        tried: starts carried to convergence by Levenberg-Marquardt.
        agree: how many of these ended at the same loss and the same curve.
    """

    place: np.ndarray
    cost: float
    searched: int
    tried: int
    agree: int


def search(problem: Problem, *, starts: int = 512, polish: int = 24) -> Optimum:
    """The best of many starts for one data set (every array of `problem` has leading dimension 1)."""
    grid = start_values(problem.form, problem.axes, starts)
    place = to_moved(problem.form, solve_linear(problem, grid))
    low, high = bounds(problem.form)
    place = np.clip(place, low, high)
    cost = problem.cost(problem.residuals(place))
    usable = np.flatnonzero(np.isfinite(cost))
    if not len(usable):
        return Optimum(place[0], np.inf, len(grid), 0, 0)
    order = usable[np.argsort(cost[usable])]
    best_half = order[: (polish + 1) // 2]
    rest = order[len(best_half) :]
    spread = rest[np.linspace(0, len(rest) - 1, min(len(rest), polish // 2)).astype(int)] if len(rest) else rest
    chosen = np.unique(np.concatenate([best_half, spread]))
    ends, costs = minimise(problem, place[chosen], max_steps=500, tolerance=1e-8)
    winner = int(np.argmin(costs))
    ends[[winner]], costs[[winner]] = minimise(problem, ends[[winner]])
    agree = _agreeing(problem, ends, costs, winner)
    return Optimum(ends[winner], float(costs[winner]), len(grid), len(chosen), agree)


def _agreeing(problem: Problem, ends: np.ndarray, costs: np.ndarray, winner: int) -> int:
    finite = np.isfinite(costs)
    gap = np.full(len(costs), np.inf)
    residuals = problem.residuals(ends)
    gap[finite] = np.max(np.abs(residuals[finite] - residuals[winner]), axis=1)
    spread = np.sqrt(np.mean(residuals[winner] ** 2))
    same_loss = costs <= costs[winner] * (1 + 1e-4) + 1e-18
    return int(np.sum(same_loss & (gap <= 1e-6 + 1e-2 * spread)))


def start_values(form: Form, axes: tuple[np.ndarray, ...], count: int) -> np.ndarray:
    """[S, m] parameter values: nonlinear ones spread over their search ranges, linear ones 1 (to be solved).

    One or two nonlinear parameters get a regular grid, more a Sobol sequence (fixed, so a fit is reproducible).
    """
    free = form.nonlinear
    values = np.ones((1, len(form.parameters)))
    if not free:
        return values
    if len(free) <= 2:
        side = max(2, int(np.ceil(count ** (1 / len(free)))))
        unit = np.stack([g.ravel() for g in np.meshgrid(*[np.linspace(0, 1, side)] * len(free))], axis=1)
    else:
        unit = qmc.Sobol(len(free), scramble=True, rng=0).random_base2(int(np.ceil(np.log2(count))))
    values = np.ones((len(unit), len(form.parameters)))
    for column, parameter in enumerate(free):
        assert parameter.search is not None
        low, high = parameter.search
        if parameter.search_axis is not None:
            log_x = np.log(axes[parameter.search_axis])
            start, stop = float(log_x.min()), float(log_x.max())
            spread = np.exp(start + (low + (high - low) * unit[:, column]) * (stop - start))
        elif parameter.log and low > 0:
            spread = np.exp(np.log(low) + (np.log(high) - np.log(low)) * unit[:, column])
        else:
            spread = low + (high - low) * unit[:, column]
        values[:, form.names.index(parameter.name)] = spread
    return values


def better_start(problem: Problem, start: np.ndarray, held: str | None = None, *, spread: int = 0) -> np.ndarray:
    """`start` [S, m], or where that lowers the loss the same with its linear parameters (but `held`) solved anew.

    With `spread` also so many other values of the nonlinear parameters are tried, each with its linear ones solved.
    """
    form = problem.form
    low, high = bounds(form)
    moving = [form.names.index(parameter.name) for parameter in form.nonlinear if parameter.name != held]
    tries = [to_values(form, start)]
    for values in start_values(form, problem.axes, spread) if spread and moving else ():
        other = tries[0].copy()
        other[:, moving] = values[moving]
        tries.append(other)
    best, cost = start, problem.cost(problem.residuals(start))
    for values in tries:
        with np.errstate(all="ignore"):
            solved = np.clip(to_moved(form, solve_linear(problem, values, held)), low, high)
        lower = problem.cost(problem.residuals(solved))
        best = np.where((lower < cost)[:, None], solved, best)
        cost = np.minimum(cost, lower)
    return best


def solve_linear(problem: Problem, values: np.ndarray, held: str | None = None) -> np.ndarray:
    """Fills the linear parameters of [S, m] values by least squares of relative errors, respecting bounds at zero.

    A parameter named `held` keeps its value.
    """
    form = problem.form
    names = [name for name in form.linear if name != held]
    linear = [form.names.index(name) for name in names]
    if not linear:
        return values
    count, n = len(values), problem.y.shape[1]
    basis = np.empty((count, n, len(linear)))
    for column, name in enumerate(names):
        basis[:, :, column] = form.basis(problem.axes, values, name)
    scale = np.abs(problem.y) if problem.space != "linear" else np.ones_like(problem.y)
    with np.errstate(all="ignore"):
        root = np.sqrt(problem.weights) / scale
        basis = basis * root[:, :, None]
        rest = problem.y
        if held in form.linear:
            rest = rest - values[:, [form.names.index(held)]] * form.basis(problem.axes, values, held)
        target = np.broadcast_to(rest * root, (count, n))
    usable = np.all(np.isfinite(basis), axis=(1, 2)) & np.all(np.isfinite(target), axis=1)
    target = np.where(usable[:, None], target, 0.0)
    basis = np.where(usable[:, None, None], basis, 0.0)
    bounded = np.array([form.parameters[index].low >= 0 for index in linear])
    solved = _bounded_least_squares(basis, target, bounded)
    is_log = np.array([form.parameters[index].log for index in linear])
    size = np.sqrt(np.sum(basis**2, axis=1))
    tiny = 1e-9 * np.sqrt(np.sum(target**2, axis=1, keepdims=True)) / np.where(size > 0, size, 1.0)
    solved = np.where(is_log & (solved <= 0), tiny, solved)
    filled = values.copy()
    filled[:, linear] = np.where(usable[:, None], solved, np.nan)
    return filled


def _bounded_least_squares(basis: np.ndarray, target: np.ndarray, bounded: np.ndarray) -> np.ndarray:
    """min |basis c - target| for [S] small problems with c >= 0 where bounded, by trying every set of zeros."""
    count, _, size = basis.shape
    norm = np.sqrt(np.sum(basis**2, axis=1))
    unit = basis / np.where(norm > 0, norm, 1.0)[:, None, :]
    normal = np.einsum("sni,snj->sij", unit, unit)
    right = np.einsum("sni,sn->si", unit, target)
    best = np.zeros((count, size))
    best_gain = np.full(count, -np.inf)
    choices = [(False, True) if flag else (False,) for flag in bounded]
    for zeros in itertools.product(*choices):
        off = np.array(zeros)
        system = np.where(off[:, None] | off[None, :], 0.0, normal) + np.diag(np.where(off, 1.0, 1e-12))
        solved = np.linalg.solve(system, np.where(off, 0.0, right)[:, :, None])[:, :, 0]
        gain = 2 * np.sum(solved * right, axis=1) - np.einsum("si,sij,sj->s", solved, normal, solved)
        allowed = np.all((solved >= 0) | ~bounded, axis=1) & (gain > best_gain)
        best = np.where(allowed[:, None], solved, best)
        best_gain = np.where(allowed, gain, best_gain)
    return best / np.where(norm > 0, norm, 1.0)
