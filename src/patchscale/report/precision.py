"""How detectors find objects: precision-recall curves, and AP by object size, from coarse to fine patches.

Curves are read from `predictions/index.json` of finished trials, AP by size from the result table.
"""

from __future__ import annotations

import json
import math
from typing import Any

from patchscale.report.dense import predictions_folder, shown_rows
from patchscale.report.run import Run

KINDS = ("box", "mask")
SIZES = ("small", "medium", "large")


def precision_curves(run: Run, axes: list[str]) -> dict[str, Any] | None:
    """The panel's data, or None where no finished trial left curves.

    Args:
        run: a run directory.
        axes: columns of the result table that name a configuration.

    Returns:
        {"configurations": [{axis: value}], "curves": {kind: [{"recall", "precision"} per configuration]},
        "sizes": [{"score", "values": [AP per configuration]}], "seed"}: one random seed, coarse patches first.
    """
    found = []
    for row in shown_rows(run, axes):
        folder = predictions_folder(run, row)
        curves = json.loads((folder / "index.json").read_text()).get("curves") if folder else None
        if curves:
            found.append((row, curves))
    if not found:
        return None
    kinds = [kind for kind in KINDS if all(kind in curves for _, curves in found)]
    sizes = []
    for kind in kinds:
        for size in SIZES:
            values = [row.get(f"{kind}_ap_{size}") for row, _ in found]
            if any(value is not None and math.isfinite(value) for value in values):
                sizes.append({"score": f"{kind} AP, {size} objects", "values": values})
    return {
        "configurations": [{axis: row[axis] for axis in axes} for row, _ in found],
        "curves": {kind: [curves[kind] for _, curves in found] for kind in kinds},
        "sizes": sizes,
        "seed": int(found[0][0]["random_seed"]),
    }
