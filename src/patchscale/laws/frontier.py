"""What to train for a budget: the Pareto set, the best configuration per budget, and the optimum of a joint law."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from patchscale.errors import InputError
from patchscale.laws.law import Law
from patchscale.laws.table import as_names, describe, numbers, split


def pareto(
    table: pd.DataFrame, cost: str = "train_flops", y: str = "test_loss", *, lower_is_better: bool = True
) -> pd.DataFrame:
    """Rows that no other row beats in both cost and `y`, by rising cost.

    Args:
        table: one row a trial (average over random seeds first, or a lucky seed enters).
        cost: FLOPs, seconds, bytes or money; less is better.
        y: the metric.
        lower_is_better: False for scores.

    Raises:
        InputError: a column is missing or not finite.
    """
    price = numbers(table, cost, positive=False)
    loss = numbers(table, y, positive=False) * (1 if lower_is_better else -1)
    order = np.lexsort((loss, price))
    best, kept = np.inf, []
    for index in order:
        if loss[index] < best:
            best = loss[index]
            kept.append(index)
    return table.iloc[kept]


def compute_optimal(
    table: pd.DataFrame,
    budgets: Sequence[float] | None = None,
    by: str | Sequence[str] = ("model", "patch_size"),
    cost: str = "train_flops",
    y: str = "test_loss",
    *,
    pair: str = "random_seed",
    lower_is_better: bool = True,
) -> list[dict[str, Any]]:
    """The best configuration for each budget.

    Args:
        table: final results or learning curves; rows of one configuration and seed at several costs are one curve,
            interpolated linearly in log cost. Nothing is extrapolated: a configuration competes for the budgets from
            its first measured cost on, with its last value beyond its last.
        budgets: in the units of `cost`; nine from the cheapest to the dearest row if None.
        by: columns that name a configuration.
        cost: FLOPs, seconds, bytes or money.
        y: the metric.
        pair: random seeds, averaged.
        lower_is_better: False for scores.

    Returns:
        One JSON-able dict per budget: "budget", "best" (configuration or None), "y", "seeds", "runner_up", "margin" (by
        which the best wins), "sentence".

    Raises:
        InputError: a column is missing or not finite (not positive for `cost`).
    """
    price = numbers(table, cost)
    table = table.assign(**{cost: price, y: numbers(table, y, positive=False)})
    if budgets is None:
        budgets = [float(value) for value in np.geomspace(price.min(), price.max(), 9)]
    curves = []
    for values, part in split(table, as_names(by)):
        runs = [run for _, run in part.groupby(pair)] if pair in part.columns else [part]
        ordered = [run.sort_values(cost) for run in runs]
        curves.append((values, [(np.log(run[cost].to_numpy()), run[y].to_numpy(dtype=float)) for run in ordered]))
    return [_best(budget, curves, cost, y, lower_is_better) for budget in budgets]


def _best(budget: float, curves: list, cost: str, y: str, lower_is_better: bool) -> dict[str, Any]:
    place = np.log(budget) + 1e-9
    found = []
    for values, runs in curves:
        reached = [float(np.interp(place, *run)) for run in runs if run[0][0] <= place]
        if len(reached) == len(runs):
            found.append((float(np.mean(reached)), values, len(reached)))
    found.sort(key=lambda entry: entry[0] if lower_is_better else -entry[0])
    if not found:
        nothing = dict.fromkeys(("best", "y", "runner_up", "margin"))
        text = f"Nothing was measured at {cost} of {budget:.3g} or less."
        return {"budget": float(budget), **nothing, "seeds": 0, "sentence": text}
    level, values, seeds = found[0]
    text = f"For {cost} = {budget:.3g}: {describe(values)} ({y} {level:.4g}, {seeds} seeds)"
    margin = None
    if len(found) > 1:
        margin = abs(found[1][0] - level)
        text += f", {margin:.2g} before {describe(found[1][1])}"
    return {
        "budget": float(budget),
        "best": values,
        "y": level,
        "seeds": seeds,
        "runner_up": found[1][1] if len(found) > 1 else None,
        "margin": margin,
        "sentence": text + ".",
    }


def optimal_allocation(law: Law, compute: float, flops_per_sample: float = 6.0) -> dict[str, Any]:
    """The model and data sizes of least loss for a training compute C = k N D under a law E + A / N^alpha + B / D^beta.

    N_opt = G (C / k)^(beta / (alpha + beta)), D_opt = (C / k) / N_opt, G = (alpha A / beta B)^(1 / (alpha + beta))
    (2203.15556 eq. 4). Intervals are percentiles over the law's bootstrap draws.

    Args:
        law: of form "chinchilla" or "additive" over (params, samples).
        compute: FLOPs of the training.
        flops_per_sample: k, FLOPs per parameter and sample.

    Returns:
        JSON-able: "params", "samples", "loss", "exponent" (N_opt grows as C^exponent), each {"value", "low", "high"},
        and "sentence".

    Raises:
        InputError: another form.
    """
    if law.form.name not in ("chinchilla", "additive"):
        raise InputError(f"the closed optimum needs form 'chinchilla' or 'additive', the law is {law.form.name!r}")
    order = ["E", "A", "B", "alpha", "beta"] if law.form.name == "chinchilla" else None
    names = order or ["floor", "scale_1", "scale_2", "exponent_1", "exponent_2"]
    columns = [law.form.names.index(name) for name in names]
    point = _allocate(np.array([[law.values[name] for name in names]]), compute / flops_per_sample)
    spread = None if law.bootstraps is None else _allocate(law.bootstraps[:, columns], compute / flops_per_sample)
    tail = (1 - law.confidence) / 2
    result: dict[str, Any] = {}
    for index, name in enumerate(("params", "samples", "loss", "exponent")):
        ends = (None, None) if spread is None else np.quantile(spread[index], [tail, 1 - tail])
        low, high = (None if end is None else float(end) for end in ends)
        result[name] = {"value": float(point[index][0]), "low": low, "high": high}
    result["sentence"] = (
        f"For {compute:.3g} FLOPs: {law.x[0]} {result['params']['value']:.3g}, "
        f"{law.x[1]} {result['samples']['value']:.3g}, {law.y} {result['loss']['value']:.4g}; "
        f"the best {law.x[0]} grows as C^{result['exponent']['value']:.3f}."
    )
    return result


def _allocate(values: np.ndarray, product: float) -> tuple[np.ndarray, ...]:
    floor, a, b, alpha, beta = values.T
    with np.errstate(all="ignore"):
        balance = (alpha * a / (beta * b)) ** (1 / (alpha + beta))
        exponent = beta / (alpha + beta)
        params = balance * product**exponent
        samples = product / params
        return params, samples, floor + a * params**-alpha + b * samples**-beta, exponent
