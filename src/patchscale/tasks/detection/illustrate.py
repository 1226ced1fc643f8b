"""What a finished trial shows: a few test images with truth and prediction, AP of every class, precision-recall curves.

`predictions/` of a trial holds PNG files and `index.json` with `kind`, `images` (files of image, truth, prediction),
`classes` (a row each), and `curves` (recall and precision at IoU 0.5, for boxes and masks).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from patchscale.files import write_bytes, write_json
from patchscale.tasks.detection.ap import Precision
from patchscale.tasks.detection.draw import LEAST_SCORE, draw_objects
from patchscale.tasks.pictures import png, shown
from patchscale.tasks.task import Autocast


def write_predictions(
    task: Any,
    model: nn.Module,
    device: torch.device,
    autocast: Autocast,
    folder: Path,
    precision: dict[str, Precision],
) -> None:
    """Writes the folder that the module's head describes, for a `Detection`, its model, and its scores by kind."""
    folder.mkdir(parents=True, exist_ok=True)
    data, images = task.test_set, []
    for one in task.measure(model, device, autocast, torch.tensor(shown(len(data)))):
        image, record, found = data.image(one.index), data.record(one.index), one.objects
        sure = np.flatnonzero(found.scores >= LEAST_SCORE)
        many = len(task.classes) > 1
        truth_names = [task.classes[label] if many else "" for label in record.labels]
        found_names = [task.classes[found.labels[place]] if many else "" for place in sure]
        found_masks = None if found.masks is None else [found.masks[place] for place in sure]
        parts = {
            "image": image,
            "truth": draw_objects(image, record.boxes, truth_names, record.masks if task.options.masks else None),
            "prediction": draw_objects(image, found.boxes[sure], found_names, found_masks),
        }
        names = {part: f"{one.index}_{part}.png" for part in parts}
        for part, drawn in parts.items():
            write_bytes(folder / names[part], png(drawn))
        images.append({"index": one.index, **names})
    by_class = {kind: counted.by_class() for kind, counted in precision.items()}
    rows = [
        {"class": name, **{f"{kind}_ap": by_class[kind].get(name) for kind in by_class}}
        for name in task.classes
        if any(name in found for found in by_class.values())
    ]
    curves = {
        kind: dict(zip(("recall", "precision"), (part.tolist() for part in counted.curve()), strict=True))
        for kind, counted in precision.items()
    }
    write_json(folder / "index.json", {"kind": "detection", "images": images, "classes": rows, "curves": curves})
