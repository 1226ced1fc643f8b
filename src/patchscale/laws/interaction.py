"""Do two axes act on their own, or does one change what the other is worth? An F test of nested joint laws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from patchscale.errors import InputError
from patchscale.laws.fitting import fit
from patchscale.laws.table import as_names

_PAIRS = {2: ("additive", "additive_interaction"), 3: ("additive_three", "additive_three_interaction")}


def interaction_test(
    table: pd.DataFrame,
    x: str | Sequence[str] = ("params", "tokens"),
    y: str = "test_loss",
    confidence: float = 0.9,
    *,
    bound: float | None = None,
    weights: str | None = None,
    starts: int = 512,
) -> dict[str, Any]:
    """Tests whether the token term depends on the model: E + A / N^a + B N^-c / K^b against the same with c = 0.

    "The larger the model, the fewer tokens it needs" is the claim c > 0; c < 0 says that larger models gain more from
    tokens. Fitted by least squares of relative errors.

    Args:
        table: one row a trial.
        x: two columns (the first is what may modify the second), or three (the third stays additive).
        y, bound, weights, confidence, starts: as for `fit`.

    Returns:
        JSON-able: "additive" and "interaction" (both laws), "exponent" (c with its interval), "f", "p", "delta_aicc"
        (interaction minus additive; negative favours it), "verdict" ("interaction", "none seen", "untestable"),
        "sentence".

    Raises:
        InputError: as `fit`, or neither two nor three columns.
    """
    names = as_names(x)
    if len(names) not in _PAIRS:
        raise InputError(f"an interaction needs two or three columns for x, got {len(names)}: {', '.join(names)}")
    plain, crossed = (
        fit(
            table, names, y, form=form, confidence=confidence, bound=bound, weights=weights, starts=starts, bootstrap=0
        )[0]
        for form in _PAIRS[len(names)]
    )
    sums = [
        float(np.sum(law.problem.weights * law.problem.residuals(law.place[None, :]) ** 2)) for law in (plain, crossed)
    ]
    spare = crossed.points - len(crossed.params)
    ratio = p = None
    if spare > 0 and sums[1] > 0:
        ratio = max(sums[0] - sums[1], 0.0) / (sums[1] / spare)
        p = float(stats.f.sf(ratio, 1, spare))
    param = crossed.params["interaction"]
    delta = None if plain.aicc is None or crossed.aicc is None else crossed.aicc - plain.aicc
    verdict = "untestable"
    if p is not None:
        verdict = "interaction" if p < 1 - confidence and param.identified else "none seen"
    return {
        "x": names,
        "y": y,
        "points": plain.points,
        "exponent": param.to_dict(),
        "f": ratio,
        "p": p,
        "delta_aicc": delta,
        "verdict": verdict,
        "sentence": _sentence(names, param, p, delta, confidence, verdict),
        "additive": plain.to_dict(),
        "interaction": crossed.to_dict(),
    }


def _sentence(names, param, p, delta, confidence, verdict) -> str:
    first, second = names[0], names[1]
    if p is None or delta is None:
        return f"Whether {first} and {second} interact cannot be tested: no points to spare."
    numbers = f"p = {p:.2g}, AICc {delta:+.1f}"
    if verdict != "interaction":
        return f"No interaction of {first} and {second} is seen ({numbers}): the additive law is enough."
    direction = "fewer" if param.value > 0 else "more"
    return (
        f"{first} and {second} interact ({numbers}): the {second} term goes as {first}^{-param.value:.2g} "
        f"({100 * confidence:g} % interval {-param.high:.2g} to {-param.low:.2g}), so with larger {first} {direction} "
        f"{second} are needed to come equally close to the limit."
    )
