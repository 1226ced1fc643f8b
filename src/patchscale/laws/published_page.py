"""docs/published_laws.md, written by `python -m patchscale.laws.published_page docs/published_laws.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

import numpy as np

from patchscale.files import write_text
from patchscale.laws.published_laws import (
    published_extrapolation,
    published_interaction,
    published_laws,
    visual_bases_minimum,
    vlm_summary,
)


def page() -> str:
    """The whole page as Markdown; takes about a minute."""
    parts = [
        "# Laws of the published tables",
        """\
Written by `python -m patchscale.laws.published_page docs/published_laws.md`. Everything here is fitted to numbers
printed in papers; nothing was measured by this project. Errors are 100 - score in points, tokens as printed (tables
2 and 3 print none: 512 x 512 and 800 x 1333 pixels are assumed). Scores are printed to 0.1, so no residual variance
below that of rounding is believed. Most rows are one run per patch size.""",
        "## Error against tokens, tables 1 to 5 of 2502.03738",
        """\
error = floor + scale * tokens^-exponent; 90 % profile-likelihood intervals, bootstrap in parentheses (it
under-covers on so few points); - where there is none. Best of power, power_floor and log_linear, by AICc if all
three have the points for it, else by predicting the finest patch from the rest.""",
        _laws_table(),
        "## Fitted to p >= 4, asked for p = 2 and 1",
        *_extrapolation(),
        "## Does the gain from tokens depend on the model's size? (table 4)",
        """\
error = floor + A / params^a + B params^-c / tokens^b; c = 0 is the additive law, in which the tokens needed to come
within a given distance of the limit do not depend on the model. All 35 cells together have the pixels of the input
as a third, additive axis.""",
        *_interaction(),
        "## Vision tokens in a vision-language model (2412.18387)",
        """\
18 metrics, two variants, ten token counts each, fitted in log score. AICc summed over the curves; extrapolation is
fitted to n <= 128 and asked for n >= 256 (mean relative error). `vision_tokens` is the paper's theory law, `power`
what it plots.""",
        _vlm(),
        "## Empirical minimum description length (2511.19515)",
        _visual_bases(),
    ]
    return "\n\n".join(parts) + "\n"


def _laws_table() -> str:
    rows = []
    for law in published_laws().to_dict("records"):
        shown = [f"{law[name]:.3g} {_interval(law, name)}" for name in ("floor", "exponent")]
        what = " ".join(str(law[name]) for name in ("model", "head", "input", "series") if law[name])
        best = f"{law['best_form']} ({law['judged_by']})" if law["best_form"] else "-"
        rows.append([law["table"], what, law["metric"], law["points"], *shown, f"{100 * law['rms']:.2f} %", best])
    return _table(["table", "row", "metric", "points", "floor", "exponent", "rms", "best form"], rows)


def _interval(law: dict, name: str) -> str:
    low, high = law[f"{name}_low"], law[f"{name}_high"]
    text = "-" if np.isnan(low) else f"[{low:.3g}, {high:.3g}]"
    if law[f"{name}_bootstrap_low"] is not None and not np.isnan(law[f"{name}_bootstrap_low"]):
        text += f" ({law[f'{name}_bootstrap_low']:.3g}, {law[f'{name}_bootstrap_high']:.3g})"
    return text


def _extrapolation() -> list[str]:
    table = published_extrapolation()
    forms = list(dict.fromkeys(table["form"]))
    error = {form: float(np.mean(np.abs(table.loc[table["form"] == form, "error"]))) for form in forms}
    rows: dict[tuple, dict[str, str]] = {}
    for row in table.to_dict("records"):
        what = " ".join(str(row[name]) for name in ("model", "head", "input", "series") if row[name])
        key = (row["table"], what, row["metric"], row["patch"], row["published"])
        rows.setdefault(key, {})[row["form"]] = _prediction(row)
    words = ", ".join(f"{form} {value:.2f}" for form, value in error.items())
    cells = [[*key, *(row.get(form, "-") for form in forms)] for key, row in rows.items()]
    return [
        f"Mean absolute error in points: {words}. Brackets are 90 % prediction intervals; three points leave none "
        "for a law of three parameters.",
        _table(["table", "row", "metric", "p", "published", *forms], cells),
    ]


def _prediction(row: dict) -> str:
    text = f"{row['predicted']:.2f}"
    return text if np.isnan(row["low"]) else f"{text} [{row['low']:.1f}, {row['high']:.1f}]"


def _interaction() -> Iterable[str]:
    rows = []
    for name, test in published_interaction().items():
        c = test["exponent"]
        interval = f"[{c['low']:.2f}, {c['high']:.2f}]"
        rows.append(
            [name, test["points"], f"{c['value']:.2f} {interval}", f"{test['p']:.1e}", f"{test['delta_aicc']:+.1f}"]
        )
        yield f"- {name}: {test['sentence']}"
    yield _table(["input", "cells", "c (90 % interval)", "p of c = 0", "AICc against additive"], rows)


def _vlm() -> str:
    rows = [
        [
            row["variant"],
            row["form"],
            row["parameters"],
            f"{row['aicc']:.0f}",
            row["wins"],
            f"{row['extrapolation_error']:.0%}",
        ]
        for row in vlm_summary().to_dict("records")
    ]
    return _table(["variant", "form", "parameters", "AICc", "curves won", "extrapolation error"], rows)


def _visual_bases() -> str:
    row = visual_bases_minimum().iloc[0]
    return (
        f"ViT-B, within one point of 77.91: linear interpolation reaches it at {row['interpolated']} tokens, so "
        f"{row['recomputed']}; published {row['published']:.0f}."
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m patchscale.laws.published_page OUT.md")
    write_text(sys.argv[1], page())
