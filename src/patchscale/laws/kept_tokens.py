"""What a study of kept tokens says: the fewest tokens each model needs, whether larger models need fewer, and what
every way of keeping them is worth at equal FLOPs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from patchscale.errors import InputError
from patchscale.laws.frontier import pareto
from patchscale.laws.interaction import interaction_test
from patchscale.laws.minimum_tokens import minimum_tokens
from patchscale.laws.table import need_columns, numbers

ABSOLUTE = (0.02, 0.05, 0.1)
RELATIVE = (0.01, 0.02, 0.05)
FULL = "none"
"""The reducer column's value where all tokens are kept."""


def kept_tokens(
    table: pd.DataFrame,
    y: str = "test_loss",
    *,
    lower_is_better: bool = True,
    absolute: tuple[float, ...] = ABSOLUTE,
    relative: tuple[float, ...] = RELATIVE,
) -> dict[str, Any]:
    """Minimum tokens, interaction with model size, and comparison at equal FLOPs.

    Model size is the parameters of the full-token model, so that it does not contain K: a reducer whose parameters
    grow with K would otherwise put the answer on both axes.

    Args:
        table: one row a trial with columns model, reducer ("none" where all tokens are kept), kept_tokens, random_seed,
            params_without_positions, flops_per_image and `y`.
        y: the quality.
        lower_is_better: True for a loss.
        absolute, relative: tolerances of the minimum, in units of `y` and as fractions of the full value.

    Returns:
        JSON-able: "minimum_tokens" (a dict a reducer, model and tolerance, as `laws.minimum_tokens`, with "reducer"),
        "interaction" (a dict a reducer, as `laws.interaction_test`, and "by_seed", its exponent on each random seed
        alone, None where it cannot be fitted), "equal_flops" (as `equal_flops`), "frontier" (as `frontier`), "notes"
        (what could not be computed, and why).

    Raises:
        InputError: a column is missing, or a model has no full-token trial.
    """
    need_columns(
        table, ["model", "reducer", "kept_tokens", "random_seed", "params_without_positions", "flops_per_image"]
    )
    full = _of(table, FULL)
    if lacking := set(table["model"]) - set(full["model"]):
        raise InputError(f"no trial of {', '.join(sorted(lacking))} keeps all tokens (reducer none); run one")
    sizes = dict(zip(full["model"], full["params_without_positions"], strict=True))
    found: dict[str, Any] = {"y": y, "minimum_tokens": [], "interaction": [], "notes": []}
    for reducer in _reducers(table):
        part = with_full(table, reducer)
        for tolerance, is_relative in [*((t, False) for t in absolute), *((t, True) for t in relative)]:
            rows = minimum_tokens(
                part, tolerance, "model", "kept_tokens", y, relative=is_relative, lower_is_better=lower_is_better
            )
            found["minimum_tokens"] += [{"reducer": reducer, "relative": is_relative, **row} for row in rows]
        sized = part.assign(model_params=[sizes[model] for model in part["model"]])
        try:
            found["interaction"].append({"reducer": reducer, **_interaction(sized, y)})
        except InputError as error:
            found["notes"].append(f"interaction for {reducer}: {error}")
    found["equal_flops"] = equal_flops(table, y)
    found["frontier"] = frontier(table, y, lower_is_better=lower_is_better)
    return found


def _interaction(table: pd.DataFrame, y: str) -> dict[str, Any]:
    """The test on all rows, and the exponent c on each random seed alone ("by_seed").

    Rows of one model that serves several K share its luck, which the test's p takes for many independent rows. So the
    sign of c must be the same on every random seed that can be fitted for an interaction to be seen.
    """
    axes = ("model_params", "kept_tokens")
    tested = interaction_test(table, axes, y, starts=128)
    by_seed: dict[str, float | None] = {}
    for seed, own in table.groupby("random_seed"):
        try:
            by_seed[str(seed)] = interaction_test(own, axes, y, starts=32)["exponent"]["value"]
        except InputError:
            by_seed[str(seed)] = None
    texts = ", ".join("no fit" if value is None else f"{value:.2g}" for value in by_seed.values())
    verdict, sentence = tested["verdict"], f"{tested['sentence']} Exponent c on each random seed alone: {texts}."
    signs = {value > 0 for value in by_seed.values() if value is not None}
    if verdict == "interaction" and len(signs) > 1:
        verdict, sentence = "none seen", f"{sentence} Random seeds disagree about its sign, so it is not taken as seen."
    return {**tested, "by_seed": by_seed, "verdict": verdict, "sentence": sentence}


def with_full(table: pd.DataFrame, reducer: str) -> pd.DataFrame:
    """The rows of one reducer with, as its largest K, all tokens: its own such row where one model serves several K,
    else the trial of "none", for seeds that have both.
    """
    own, full, trial = _of(table, reducer), _of(table, FULL), ["model", "random_seed"]
    everything = dict(zip(full["model"], full["kept_tokens"], strict=True))
    complete = own.loc[own["kept_tokens"].to_numpy() == [everything[model] for model in own["model"]], trial]
    pairs = own.loc[:, trial].drop_duplicates().merge(complete, how="left", indicator=True)
    lacking = pairs.loc[pairs["_merge"] == "left_only", trial]
    return pd.concat([own, full.merge(lacking, on=trial)], ignore_index=True)


def _of(table: pd.DataFrame, reducer: str) -> pd.DataFrame:
    return table.loc[table["reducer"] == reducer, :]


def _reducers(table: pd.DataFrame) -> list[str]:
    """In order of appearance, those that reduce."""
    return [name for name in dict.fromkeys(table["reducer"]) if name != FULL]


def frontier(table: pd.DataFrame, y: str = "test_loss", *, lower_is_better: bool = True) -> list[dict[str, Any]]:
    """Models, reducers and K that nothing cheaper or as cheap beats, by rising forward FLOPs.

    Returns:
        Dicts with "model", "reducer", "kept_tokens", "flops_per_image", `y` (mean over random seeds), "seeds".
    """
    place = ["model", "reducer", "kept_tokens"]
    means = table.groupby(place, sort=False).agg(
        flops_per_image=("flops_per_image", "mean"), **{y: (y, "mean")}, seeds=("random_seed", "nunique")
    )
    best = pareto(means.reset_index(), "flops_per_image", y, lower_is_better=lower_is_better)
    return [
        {
            "model": row["model"],
            "reducer": row["reducer"],
            "kept_tokens": int(row["kept_tokens"]),
            "flops_per_image": float(row["flops_per_image"]),
            y: float(row[y]),
            "seeds": int(row["seeds"]),
        }
        for row in best.to_dict("records")
    ]


def equal_flops(
    table: pd.DataFrame, y: str = "test_loss", shares: tuple[float, ...] = (0.125, 0.25, 0.5)
) -> list[dict[str, Any]]:
    """`y` of each model and reducer at shares of the full-token model's forward FLOPs, the reducer's own counted in.

    Between measured K, `y` is interpolated linearly in log FLOPs; nothing is extrapolated (None outside).

    Returns:
        Dicts with "model", "share", "flops", "values" {reducer: {"mean", "low", "high", "seeds"}} (low and high:
        the smallest and largest random seed).
    """
    found = []
    for model, part in table.groupby("model", sort=False):
        full = numbers(_of(part, FULL), "flops_per_image")[0]
        for share in shares:
            values = {}
            for reducer in _reducers(part):
                curves = with_full(part, reducer).groupby("random_seed")
                at = [_at(curve, share * full, y) for _, curve in curves]
                known = [value for value in at if value is not None]
                values[reducer] = (
                    {"mean": float(np.mean(known)), "low": min(known), "high": max(known), "seeds": len(known)}
                    if known
                    else None
                )
            found.append({"model": model, "share": share, "flops": float(share * full), "values": values})
    return found


def _at(curve: pd.DataFrame, flops: float, y: str) -> float | None:
    curve = curve.sort_values("flops_per_image")
    costs = numbers(curve, "flops_per_image")
    if not costs[0] <= flops <= costs[-1]:
        return None
    return float(np.interp(np.log(flops), np.log(costs), numbers(curve, y, positive=False)))
