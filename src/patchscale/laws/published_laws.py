"""The laws behind the published tables: every row of tables 1 to 5 fitted, compared, extrapolated, set beside what was
published.

Everything here is a fit of published numbers; nothing is measured by us.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from patchscale.laws.compare import Comparison, compare
from patchscale.laws.fitting import fit
from patchscale.laws.interaction import interaction_test
from patchscale.laws.minimum_tokens import minimum_tokens
from patchscale.laws.published import published
from patchscale.laws.table import split

FORMS = ("power", "power_floor", "log_linear")
VLM_FORMS = ("power", "vision_tokens", "log_linear", "saturating", "quadratic_loglog")
SERIES = ["table", "model", "head", "input", "series", "metric"]
STARTS, POLISH = 128, 8
_PIXELS = {2: 512 * 512, 3: 800 * 1333}


def published_series() -> pd.DataFrame:
    """Every row of tables 1 to 5 of 2502.03738 that varies the patch size, one score a line.

    Returns:
        Columns table, model, head, input, series (table 5: "by extending" or "by scaling"), metric, patch, tokens,
        score (percent). Tables 2 and 3 name no token counts: 512 x 512 and 800 x 1333 pixels are assumed, which scales
        x alone. A row with a single patch size (UperNet) is no series and left out.
    """
    rows = published("patchification").query("table <= 5 and metric != 'params_million'")
    area = [_PIXELS.get(table, 0) for table in rows["table"]]
    rows = rows.assign(tokens=rows["tokens"].fillna(pd.Series(area, index=rows.index) / rows["patch"] ** 2))
    rows = rows.rename(columns={"decoder": "head", "note": "series", "value": "score"})
    rows = rows.fillna({"head": "", "input": "", "series": ""})
    parts = [part for _, part in split(rows, SERIES) if len(set(part["tokens"])) >= 3]
    return pd.concat(parts, ignore_index=True).loc[:, [*SERIES, "patch", "tokens", "score"]]


def published_laws(form: str = "power_floor", confidence: float = 0.9, *, bootstrap: int = 200) -> pd.DataFrame:
    """The law of error (100 - score) against tokens of every published row, with intervals and the forms compared.

    Returns:
        One row per series: its columns, points, formula, for every parameter its value, low, high, bootstrap_low,
        bootstrap_high and identified, then rms (relative), best_form and judged_by (see `Comparison.best`), comparison
        and sentence.
    """
    result = []
    table = published_series()
    laws = fit(
        table,
        "tokens",
        "score",
        SERIES,
        form,
        confidence,
        bound=100,
        resolution=0.1,
        bootstrap=bootstrap,
        starts=STARTS,
        polish=POLISH,
    )
    judged = compare(table, "tokens", "score", FORMS, SERIES, bound=100, starts=STARTS, polish=POLISH)
    for law, comparison in zip(laws, judged, strict=True):
        row: dict[str, Any] = {**law.group, "points": law.points, "formula": law.formula}
        for name, param in law.params.items():
            row[name] = param.value
            row |= {f"{name}_low": param.low, f"{name}_high": param.high}
            row |= {f"{name}_bootstrap_low": param.bootstrap_low, f"{name}_bootstrap_high": param.bootstrap_high}
            row[f"{name}_identified"] = param.identified
        best = comparison.best or ("", "")
        row |= {"rms": law.rms_log_residual, "best_form": best[0], "judged_by": best[1]}
        result.append({**row, "comparison": comparison.sentence, "sentence": law.sentence})
    return pd.DataFrame(result)


def published_extrapolation(
    forms: Sequence[str] = FORMS, confidence: float = 0.9, *, smallest_seen: float = 4
) -> pd.DataFrame:
    """Fits to patches of `smallest_seen` and more, predictions for the smaller ones, beside the published scores.

    Returns:
        One row per series, form and patch below `smallest_seen`: the series' columns, patch, tokens, published, form,
        points (used), predicted, low, high (prediction interval; NaN or infinite where the points give none), error
        (predicted minus published, in points of the metric).
    """
    result = []
    table = published_series()
    for values, part in split(table, SERIES):
        coarse, fine = part.query(f"patch >= {smallest_seen}"), part.query(f"patch < {smallest_seen}")
        for form in forms:
            if fine.empty or len(set(coarse["tokens"])) < (3 if form == "power_floor" else 2):
                continue
            (law,) = fit(
                coarse,
                "tokens",
                "score",
                None,
                form,
                confidence,
                bound=100,
                resolution=0.1,
                bootstrap=0,
                held_out=False,
            )
            low, high = law.band(fine["tokens"], "prediction")
            for index, predicted in enumerate(law.predict(fine["tokens"])):
                given = fine.iloc[index]
                result.append(
                    {
                        **values,
                        "patch": int(given["patch"]),
                        "tokens": int(given["tokens"]),
                        "published": float(given["score"]),
                        "form": form,
                        "points": law.points,
                        "predicted": float(predicted),
                        "low": float(low[index]),
                        "high": float(high[index]),
                        "error": float(predicted - given["score"]),
                    }
                )
    return pd.DataFrame(result)


def published_grid() -> pd.DataFrame:
    """Table 4's 35 cells as a joint table: columns model, params (from table 7), input, pixels, patch, tokens,
    score."""
    sizes = published(7).query("metric == 'params_million'")
    params = dict(zip(sizes["model"], sizes["value"], strict=True))
    cells = published(4)
    grid = cells[["model", "input", "patch", "tokens"]].astype({"input": int, "tokens": int})
    return grid.assign(
        params=[params[model] * 1e6 for model in cells["model"]], pixels=grid["input"] ** 2, score=cells["value"]
    )


def published_interaction(confidence: float = 0.9) -> dict[str, dict]:
    """Does the gain from tokens depend on the model's size? Over table 4: both inputs, and all 35 cells at once.

    Returns:
        "128", "224" (params x tokens at one input size) and "all" (with the pixels of the input as a third, additive
        axis): each a dict of `interaction_test`.
    """
    grid = published_grid()
    tests = {
        str(size): interaction_test(part, ("params", "tokens"), "score", confidence, bound=100)
        for size, part in grid.groupby("input")
    }
    return {**tests, "all": interaction_test(grid, ("params", "tokens", "pixels"), "score", confidence, bound=100)}


def vlm_comparison(variants: Sequence[str] = ("vqq", "vq_ft")) -> list[Comparison]:
    """Five forms on every published vision-token curve: fitted in log space, points from 256 tokens on held out."""
    curves = published("vlm").query(f"variant in {list(variants)}")
    return compare(curves, "vision_tokens", "score", VLM_FORMS, ["variant", "metric"], held_from=256)


def vlm_summary(comparisons: Sequence[Comparison] | None = None) -> pd.DataFrame:
    """`vlm_comparison` in one table per variant and form.

    Returns:
        Columns variant, form, parameters, aicc (summed over the 18 curves), wins (curves with the lowest AICc),
        extrapolation_error (mean over curves of the mean relative error from 256 tokens on).
    """
    rows = [
        {**row, "variant": comparison.group["variant"], "wins": int(row is comparison.rows[0])}
        for comparison in (comparisons if comparisons is not None else vlm_comparison())
        for row in comparison.rows
    ]
    grouped = pd.DataFrame(rows).groupby(["variant", "form"], sort=False)
    summary = grouped.agg(
        parameters=("parameters", "first"),
        aicc=("aicc", "sum"),
        wins=("wins", "sum"),
        extrapolation_error=("held_out_error", "mean"),
    )
    return summary.reset_index().sort_values(["variant", "aicc"], ignore_index=True)


def visual_bases_minimum() -> pd.DataFrame:
    """The published empirical minimum of ViT-B (117 tokens) recomputed from its curve, within one point of 77.91."""
    curve = published("T2").query("metric == 'top1_percent'").assign(top1=lambda rows: rows["value"])
    (found,) = minimum_tokens(curve, 1.0, full=77.91)
    (given,) = published("T3").query("model == 'ViT-B' and metric == 'mdl_tokens'")["value"]
    row = {"model": "ViT-B", "published": float(given), "recomputed": found["tokens_up"]}
    return pd.DataFrame([{**row, "interpolated": np.round(found["tokens"], 2)}])
