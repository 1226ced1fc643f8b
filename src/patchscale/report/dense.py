"""What dense models see: test images with truth and prediction from coarse to fine patches, and scores class by class.

Read from `predictions/` of finished trials: `index.json` names PNG files and holds a row per class.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pandas as pd

from patchscale.report.run import Run

SCORES = {"iou": "IoU", "box_ap": "box AP", "mask_ap": "mask AP"}
"""Scores of a class, by their key in `index.json`."""
MOST = 12
"""Configurations that are drawn, at most."""


def dense_pictures(run: Run, axes: list[str]) -> dict[str, Any] | None:
    """The panel's data, or None where no finished trial left predictions.

    Args:
        run: a run directory.
        axes: columns of the result table that name a configuration.

    Returns:
        {"configurations": [{axis: value}], "images": [{"image", "truth", "predictions": [...]}], "scores": [label],
        "classes": [{"class", "colour", "values": [[a value per score] per configuration]}], "seed"}: predictions and
        values in the order of the configurations, which are those of one random seed; pictures are data addresses, and
        a colour is what the class has in them ([red, green, blue], None where colours tell objects apart).
    """
    left = [(row, folder) for row in shown_rows(run, axes) if (folder := predictions_folder(run, row)) is not None]
    indices = [json.loads((folder / "index.json").read_text()) for _, folder in left[:MOST]]
    found = [place for place, index in zip(left, indices, strict=False) if "classes" in index]
    indices = [index for index in indices if "classes" in index]
    if not found:
        return None
    scores = [key for key in SCORES if key in indices[0]["classes"][0]]
    images = []
    for place, shown in enumerate(indices[0]["images"]):
        predictions = [
            _address(folder / index["images"][place]["prediction"])
            for (_, folder), index in zip(found, indices, strict=True)
        ]
        first = found[0][1]
        images.append(
            {
                "image": _address(first / shown["image"]),
                "truth": _address(first / shown["truth"]),
                "predictions": predictions,
            }
        )
    by_class = [{row["class"]: row for row in index["classes"]} for index in indices]
    names = dict.fromkeys(name for rows in by_class for name in rows)
    return {
        "configurations": [{axis: row[axis] for axis in axes} for row, _ in found],
        "images": images,
        "scores": [SCORES[key] for key in scores],
        "classes": [
            {
                "class": name,
                "colour": by_class[0].get(name, {}).get("colour"),
                "values": [[rows.get(name, {}).get(key) for key in scores] for rows in by_class],
            }
            for name in names
        ],
        "seed": int(found[0][0]["random_seed"]),
    }


def shown_rows(run: Run, axes: list[str]) -> list[dict[str, Any]]:
    """A row of every configuration, of the smallest random seed that is there, coarse patches first."""
    if run.results.empty or not {"patch_size", "random_seed"} <= set(run.results.columns):
        return []
    others = [axis for axis in axes if axis not in ("patch_size", "random_seed") and axis in run.results]
    seed = run.results["random_seed"].min()
    rows: pd.DataFrame = run.results.loc[run.results["random_seed"] == seed]
    order = [*others, "patch_size"]
    return rows.sort_values(order, ascending=[*(True for _ in others), False], kind="stable").to_dict("records")


def predictions_folder(run: Run, row: dict[str, Any]) -> Path | None:
    """Where a trial left its predictions, or None."""
    folder = run.path / "trials" / str(row["trial"]) / "predictions"
    return folder if (folder / "index.json").is_file() else None


def _address(file: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(file.read_bytes()).decode()
