"""Published numbers beside ours: panels for every study whose source is a table of the patchification paper."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from patchscale.laws import published
from patchscale.report.frames import distinct, means, where
from patchscale.report.run import Run

PAPER = "Scaling Laws in Patchification"
SCORES = {
    "top1_percent": ("top1", "top-1 error, %"),
    "miou_percent": ("miou", "100 % less mean IoU, %"),
    "box_ap": ("box_ap", "100 % less box AP, %"),
    "mask_ap": ("mask_ap", "100 % less mask AP, %"),
}
"""Published metric: our column (a share of one) and what both are drawn as."""
COUNTS = {
    "memory_mb_per_image": ("memory_bytes_per_image", 2**-20, "memory of an image, MiB"),
    "a100_gpu_hours_per_imagenet_epoch": ("device_hours_per_epoch", 1.0, "A100 hours of an epoch"),
}
"""Published metric: our column, its unit, and what both are drawn as."""
PIXELS = {2: 512 * 512, 3: 800 * 1333}
"""Pixels of an image where a table names no token counts; assumed."""


def panels(run: Run, axes: list[str]) -> list[dict[str, Any]]:
    """One panel a published metric that the run has too.

    Args:
        run: a run directory as read.
        axes: columns that name a configuration, of all studies shown; those that this one lacks are left out.

    Returns:
        Dicts with study, table, label, predicted (ours was counted, not measured), published and ours: series with
        name, patch, tokens and value; empty if the study's source names no table or no metric is shared.
    """
    if run.results.empty:
        return []
    found, axes = [], [name for name in axes if name in run.results]
    for table in tables_of(str(run.study.get("source", ""))):
        rows = published(table)
        for metric in distinct(rows, "metric"):
            column, _ = drawn_as(str(metric))
            if column in run.results:
                found.append(_panel(run, axes, table, str(metric), where(rows, rows["metric"] == metric)))
    return found


def tables_of(source: str) -> list[int]:
    """Numbers of the tables that a study's source names: "..., figure 1, tables 1 and 4" gives 1 and 4."""
    named = re.search(r"tables? (\d(?:(?:, | and )\d)*)", source)
    return [int(number) for number in re.findall(r"\d", named[1])] if named and source.startswith(PAPER) else []


def drawn_as(metric: str) -> tuple[str, str]:
    """Our column for a published metric (empty if there is none), and the label of both."""
    if metric in COUNTS:
        column, _, label = COUNTS[metric]
        return column, label
    return SCORES.get(metric, ("", ""))


def _panel(run: Run, axes: list[str], table: int, metric: str, rows: pd.DataFrame) -> dict[str, Any]:
    column, label = drawn_as(metric)
    tokens = rows["tokens"].fillna(PIXELS.get(table, 0) / rows["patch"] ** 2)
    given = rows.assign(tokens=tokens, shown=[_printed(metric, value) for value in rows["value"]])
    names = [name for name in axes if name not in ("patch_size", "random_seed", "sequence_extension")]
    by = list(dict.fromkeys([*names, *(name for name in ("patch_size", "tokens", *axes) if name in run.results)]))
    ours = means(run.results, by, [column])
    ours = ours.assign(shown=[_own(metric, value) for value in ours[column]])
    return {
        "study": run.name,
        "table": table,
        "label": label,
        "predicted": run.counted,
        "published": _series(given, ["model", "decoder", "input", "note"], "patch"),
        "ours": _series(ours, names, "patch_size"),
    }


def _printed(metric: str, value: float) -> float:
    return value if metric in COUNTS else round(100 - value, 6)


def _own(metric: str, value: float) -> float:
    return value * COUNTS[metric][1] if metric in COUNTS else 100 * (1 - value)


def _series(rows: pd.DataFrame, names: list[str], patch: str) -> list[dict[str, Any]]:
    """Rows of equal `names` as one series each, by tokens."""
    filled = rows.fillna(dict.fromkeys(names, ""))
    groups = filled.groupby(names, sort=False) if names else [((), filled)]
    found = []
    for key, part in groups:
        part = part.sort_values("tokens")
        words = [str(value) for value in (key if isinstance(key, tuple) else (key,)) if value != ""]
        found.append({"name": " ".join(words), "patch": list(part[patch]), "tokens": list(part["tokens"])})
        found[-1]["value"] = [float(f"{value:.5g}") for value in part["shown"]]
    return found
