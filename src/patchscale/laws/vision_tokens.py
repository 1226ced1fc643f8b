"""What a study of vision tokens says: does S(n) rise, by how much, and which law describes it.

The published curves (2412.18387) go through the same comparison; see `published_vlm`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from patchscale.errors import InputError
from patchscale.files import write_text
from patchscale.laws.compare import Comparison, compare
from patchscale.laws.forms import get_form
from patchscale.laws.paired import paired_differences
from patchscale.laws.published import published
from patchscale.laws.published_laws import VLM_FORMS, vlm_comparison
from patchscale.laws.table import as_names, numbers, split

STARTS, POLISH = 64, 8
CURVE = 40
"""Points of a drawn law."""


def vision_tokens(
    table: pd.DataFrame,
    scores: Sequence[str],
    group: str | Sequence[str] | None = None,
    x: str = "task.vision_tokens",
) -> list[dict[str, Any]]:
    """S(n) of every score and group: means, rise, and the laws compared with the largest third of the n held out.

    Args:
        table: a row for each random seed and n, with columns `x`, random_seed and the scores, which rise with quality.
        scores: columns.
        group: columns whose values are compared separately.
        x: n.

    Returns:
        JSON-able dicts with "y", "group", "means" (of each n: x, mean, standard_error (None of one random seed),
        seeds), "rise" (from the first to the last n, paired over random seeds: difference, low and high of its 90 %
        interval (None with fewer than two pairs), pairs; falls: [from, to] of every neighbouring pair whose mean fell),
        "laws" (rows of `Comparison`, each with "curve": x and y), "held_from" and "sentence".

    Raises:
        InputError: a column is missing, or fewer than three different n.
    """
    found = []
    for y in scores:
        for values, part in split(table, as_names(group)):
            counts = sorted(set(numbers(part, x)))
            if len(counts) < 3:
                raise InputError(f"{len(counts)} different {x} are no curve; give three or more")
            held = counts[-max(1, len(counts) // 3)]
            means = _means(part, x, y)
            if (numbers(part, y, positive=False) > 0).all():
                (compared,) = compare(part, x, y, VLM_FORMS, None, held_from=held, starts=STARTS, polish=POLISH)
                laws, sentence = with_curves(compared, counts[0], counts[-1]), compared.sentence
            else:
                laws, sentence = [], "A score of 0 has no logarithm, so no law was fitted."
            entry = {"y": y, "group": values, "means": means, "rise": _rise(part, means, x, y), "laws": laws}
            found.append({**entry, "held_from": held, "sentence": sentence})
    return found


def with_curves(comparison: Comparison, low: float, high: float) -> list[dict[str, Any]]:
    """The comparison's rows, each with its law drawn from `low` to `high`."""
    x = np.geomspace(low, high, CURVE)
    rows = []
    for row in comparison.rows:
        kept = {name: row[name] for name in ("form", "parameters", "aicc", "delta", "held_out_error", "values")}
        curve = None
        if row["values"] is not None and None not in row["values"].values():
            form = get_form(row["form"])
            drawn = form((x,), np.array([row["values"][name] for name in form.names]))
            curve = {"x": _rounded(x), "y": _rounded(drawn)}
        rows.append({**kept, "curve": curve})
    return rows


def published_vlm() -> list[dict[str, Any]]:
    """The 36 published curves with their published power law and the same comparison of forms, fitted before.

    Returns:
        Dicts with "variant", "metric", "points" ([n, score]), "published" (c and alpha as printed) and "laws" as in
        `vision_tokens`; n from 256 on held out.
    """
    place = resources.files("patchscale.laws").joinpath("tables", "vlm_forms.json")
    return json.loads(place.read_text(encoding="utf-8"))


def fit_published_vlm(comparisons: Sequence[Comparison] | None = None) -> list[dict[str, Any]]:
    """What `tables/vlm_forms.json` holds, fitted again; takes about a minute."""
    curves, fits = published("vlm"), published("vlm_fits")
    found = []
    for comparison in comparisons if comparisons is not None else vlm_comparison():
        place = dict(comparison.group)
        own = curves.query("variant == @place['variant'] and metric == @place['metric']")
        (fit,) = fits.query("variant == @place['variant'] and metric == @place['metric']").to_dict("records")
        points = own.loc[:, ["vision_tokens", "score"]].to_numpy().tolist()
        laws = with_curves(comparison, points[0][0], points[-1][0])
        for law in laws:
            law["values"] = {name: _short(value) for name, value in law["values"].items()}
            law |= {name: _short(law[name]) for name in ("aicc", "delta", "held_out_error")}
        found.append({**place, "points": points, "published": {"c": fit["c"], "alpha": fit["alpha"]}, "laws": laws})
    return found


def _means(part: pd.DataFrame, x: str, y: str) -> list[dict[str, Any]]:
    rows = []
    for count in sorted(set(numbers(part, x))):
        values = numbers(part.loc[numbers(part, x) == count, :], y, positive=False)
        error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
        rows.append({"x": int(count), "mean": float(values.mean()), "standard_error": error, "seeds": len(values)})
    return rows


def _rise(part: pd.DataFrame, means: list[dict[str, Any]], x: str, y: str) -> dict[str, Any]:
    ends = part.loc[np.isin(numbers(part, x), [means[0]["x"], means[-1]["x"]]), :]
    (found,) = paired_differences(ends, x, (), y=y, lower_is_better=False)
    falls = [[a["x"], b["x"]] for a, b in pairwise(means) if b["mean"] < a["mean"]]
    return {**{name: found[name] for name in ("difference", "low", "high", "pairs")}, "falls": falls}


def _rounded(values: np.ndarray) -> list[float | None]:
    return [_short(value) for value in values]


def _short(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else float(f"{value:.6g}")


if __name__ == "__main__":
    if len(sys.argv) != 1:
        sys.exit("usage: python -m patchscale.laws.vision_tokens   (writes laws/tables/vlm_forms.json anew)")
    text = json.dumps(fit_published_vlm(), separators=(",", ":"), allow_nan=False)
    write_text(Path(__file__).parent / "tables" / "vlm_forms.json", text + "\n")
