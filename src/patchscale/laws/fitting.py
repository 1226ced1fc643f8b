"""`fit`: a table in, laws with honest uncertainty out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from patchscale.errors import InputError
from patchscale.laws.bootstrap import bootstrap as draw_bootstraps
from patchscale.laws.forms import Form, get_form
from patchscale.laws.held_out import hold_out
from patchscale.laws.law import Law, Param
from patchscale.laws.profile import allowed_rise, degrees_of_freedom, parameter_intervals
from patchscale.laws.residuals import check_residuals
from patchscale.laws.search import Optimum, search
from patchscale.laws.solver import Problem, to_values
from patchscale.laws.table import as_names, describe, numbers, split

HUBER_DELTA = 1e-3


def fit(
    table: pd.DataFrame,
    x: str | Sequence[str] = "tokens",
    y: str = "test_loss",
    group: str | Sequence[str] | None = None,
    form: str | Form = "power_floor",
    confidence: float = 0.9,
    *,
    bound: float | None = None,
    space: str = "log",
    loss: str | None = None,
    huber_delta: float = HUBER_DELTA,
    weights: str | None = None,
    resolution: float = 0.0,
    starts: int = 512,
    polish: int = 24,
    bootstrap: int = 200,
    held_out: bool = True,
    seed: int = 0,
) -> list[Law]:
    """Fits one law per group.

    Rows that share x (random seeds) are points of their own and so carry the noise into the intervals.

    Args:
        table: one row a trial.
        x: column of each axis of the form, in its order (comma-separated text or a list).
        y: column of the metric.
        group: columns whose values separate laws.
        form: a registered form's name, or a form.
        confidence: of every interval.
        bound: upper end of a bounded score (1 or 100); the law is then of `bound - y`, or of y in logit space.
        space: where residuals are taken: "log" (relative errors), "linear", or "logit" (needs `bound`).
        loss: "squared" or "huber", summed over points; the form's own default if None.
        huber_delta: threshold of the Huber loss in that space (1e-3 as in approach 3 of Chinchilla).
        weights: column of weights, multiplied into each point's loss.
        resolution: rounding step of the values of y (0.1 for "81.3"); no residual variance below that of rounding is
            believed, or few printed points that happen to lie on a curve would give absurdly narrow intervals.
        starts: starts of the nonlinear parameters (their linear companions are solved exactly).
        polish: of these so many are carried to convergence.
        bootstrap: draws of the bootstrap printed beside the profile interval; 0 for none.
        held_out: also fit without the finest points and predict them.
        seed: of the bootstrap.

    Raises:
        InputError: a column is missing or holds values that have no place in the fit (the message names column, row and
            value), a group has fewer distinct x than the form has parameters, or `confidence` or `bootstrap` is out of
            range.
    """
    form = get_form(form)
    if bootstrap < 0:
        raise InputError(f"bootstrap {bootstrap} is negative; use 0 for none")
    if not 0 < confidence < 1:
        raise InputError(f"confidence {confidence} is not between 0 and 1; use 0.9 for 90 %")
    if len(as_names(x)) != len(form.axes):
        raise InputError(
            f"form {form.name!r} needs {len(form.axes)} columns for x ({', '.join(form.axes)}), "
            f"got {len(as_names(x))}: {', '.join(as_names(x))}"
        )
    laws = []
    for values, part in split(table, as_names(group)):
        problem = make_problem(
            part,
            as_names(x),
            y,
            form,
            bound=bound,
            space=space,
            loss=loss,
            huber_delta=huber_delta,
            weights=weights,
            resolution=resolution,
        )
        need_points(problem, as_names(x), values)
        law = fit_problem(
            problem, confidence, starts=starts, polish=polish, bootstrap=bootstrap, held_out=held_out, seed=seed
        )
        laws.append(replace(law, x=tuple(as_names(x)), y=y, group=values, bound=bound))
    return laws


def make_problem(
    table: pd.DataFrame,
    x: Sequence[str],
    y: str,
    form: Form,
    *,
    bound: float | None = None,
    space: str = "log",
    loss: str | None = None,
    huber_delta: float = HUBER_DELTA,
    weights: str | None = None,
    resolution: float = 0.0,
) -> Problem:
    """The arrays of one fit; arguments as for `fit`."""
    if space not in ("log", "linear", "logit"):
        raise InputError(f"space {space!r} is none of log, linear, logit")
    if space == "logit" and bound is None:
        raise InputError("logit space needs the bound of the metric; pass bound=1 for fractions, bound=100 for percent")
    loss = loss or form.loss
    if loss not in ("squared", "huber"):
        raise InputError(f"loss {loss!r} is neither 'squared' nor 'huber'")
    axes = tuple(numbers(table, name)[None, :] for name in x)
    metric = numbers(table, y, positive=space != "linear" and bound is None, below=bound)
    if bound is not None and space != "logit":
        metric = bound - metric
    elif space == "logit":
        numbers(table, y, positive=True, below=bound)
    slope = {"log": 1 / metric, "linear": np.ones(len(metric))}
    if bound is not None:
        slope["logit"] = bound / (metric * (bound - metric))
    weight = numbers(table, weights) if weights else np.ones(len(table))
    return Problem(
        form,
        axes,
        metric[None, :],
        weight[None, :],
        space,
        huber_delta if loss == "huber" else None,
        bound if bound is not None else 1.0,
        float(np.mean(slope[space] ** 2)) * resolution**2 / 12,
    )


def need_points(problem: Problem, x: Sequence[str], group: dict) -> None:
    """Raises InputError if there are fewer distinct x than parameters."""
    distinct = np.unique(np.stack([axis[0] for axis in problem.axes], axis=1), axis=0)
    needed = len(problem.form.parameters)
    if len(distinct) >= needed:
        return
    where = f" ({describe(group)})" if group else ""
    smaller = "; or use form 'power', which has 2" if problem.form.name != "power" and len(distinct) >= 2 else ""
    raise InputError(
        f"too few points{where}: form {problem.form.name!r} has {needed} parameters but there are "
        f"{len(distinct)} distinct values of {', '.join(x)}; measure more of them{smaller}"
    )


def fit_problem(
    problem: Problem,
    confidence: float = 0.9,
    *,
    starts: int = 512,
    polish: int = 24,
    bootstrap: int = 200,
    held_out: bool = True,
    seed: int = 0,
) -> Law:
    """Search, intervals, bootstrap, held-out prediction and checks of one data set (columns are named by the
    caller)."""
    best = search(problem, starts=starts, polish=polish)
    if not np.isfinite(best.cost):
        raise InputError(
            f"form {problem.form.name!r} has no finite value at these x from any start; choose another form"
        )
    low, high, open_low, open_high = _intervals(problem, best, confidence)
    draws = None
    if bootstrap and degrees_of_freedom(problem) > 0:
        draws = draw_bootstraps(problem, best.place, bootstrap, seed)
    values = to_values(problem.form, best.place)
    params = {}
    for index, parameter in enumerate(problem.form.parameters):
        reason = _why_not(problem, index, bool(open_low[index]), bool(open_high[index]), confidence)
        tail = (1 - confidence) / 2
        ends = np.quantile(draws[:, index], [tail, 1 - tail]) if draws is not None and len(draws) else (None, None)
        params[parameter.name] = Param(
            float(values[index]), float(low[index]), float(high[index]), not reason, reason, ends[0], ends[1]
        )
    residual = problem.residuals(best.place[None, :])[0]
    return Law(
        form=problem.form,
        x=problem.form.axes,
        y="y",
        group={},
        params=params,
        confidence=confidence,
        points=problem.y.shape[1],
        starts={"searched": best.searched, "tried": best.tried, "agree": best.agree},
        rms_log_residual=float(np.sqrt(np.mean(residual**2))),
        aicc=akaike(residual, problem.weights[0], len(best.place)),
        held_out=hold_out(problem, confidence, starts=starts, polish=polish) if held_out else None,
        checks=check_residuals(problem, best.place),
        bound=None,
        problem=problem,
        place=best.place,
        bootstraps=draws,
    )


def akaike(residual: np.ndarray, weights: np.ndarray, size: int) -> float | None:
    """AICc of least squares: n log(SSE / n) + 2k + 2k(k + 1) / (n - k - 1), k = parameters + 1 for the variance."""
    n, k = len(residual), size + 1
    if n - k - 1 <= 0:
        return None
    squares = float(np.sum(weights * residual**2))
    return float(n * np.log(max(squares, 1e-300) / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1))


def _intervals(problem: Problem, best: Optimum, confidence: float) -> tuple[np.ndarray, ...]:
    """Interval ends as parameter values [m] (infinite or the bound where open) and which are open."""
    place, cost = best.place[None, :], np.array([best.cost])
    if degrees_of_freedom(problem) <= 0:
        nothing = np.full(len(best.place), np.nan)
        return nothing, nothing, np.ones(len(nothing), dtype=bool), np.ones(len(nothing), dtype=bool)
    rise = allowed_rise(problem, place, cost, confidence)
    low, high, open_low, open_high = (end[0] for end in parameter_intervals(problem, place, cost, rise))
    low_value, high_value = to_values(problem.form, low), to_values(problem.form, high)
    floor = np.array([parameter.low for parameter in problem.form.parameters])
    ceiling = np.array([parameter.high for parameter in problem.form.parameters])
    return np.where(open_low, floor, low_value), np.where(open_high, ceiling, high_value), open_low, open_high


def _why_not(problem: Problem, index: int, open_low: bool, open_high: bool, confidence: float) -> str:
    """Why a parameter is not identified; empty if it is."""
    parameter = problem.form.parameters[index]
    percent = f"{100 * confidence:g} %"
    if degrees_of_freedom(problem) <= 0:
        n, size = problem.y.shape[1], len(problem.form.parameters)
        return f"{n} points for {size} parameters leave nothing to estimate the noise from"
    if open_low and open_high:
        meaning = f": {parameter.zero_means}" if parameter.zero_means else ""
        return f"no value of it is excluded at {percent}{meaning}"
    if open_low and parameter.low == 0:
        meaning = f": {parameter.zero_means}" if parameter.zero_means else ""
        return f"its {percent} interval reaches zero{meaning}"
    if open_low and np.isfinite(parameter.low):
        return f"its {percent} interval reaches its lower bound {parameter.low:g}"
    if open_low:
        return f"its {percent} interval has no lower end"
    if open_high:
        return f"its {percent} interval has no upper end"
    return ""
