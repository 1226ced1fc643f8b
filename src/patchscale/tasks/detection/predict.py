"""Objects in a user's own images: pictures with boxes and masks, a table, and a COCO json."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from patchscale.data import DataSpec
from patchscale.data.boxes import fitted, load_boxes, masks
from patchscale.data.boxes.box_set import FileBoxes
from patchscale.data.decode import image_files, open_image
from patchscale.errors import InputError
from patchscale.files import write_bytes, write_json
from patchscale.tasks.detection.ap import categories, result
from patchscale.tasks.detection.draw import LEAST_SCORE, draw_objects
from patchscale.tasks.detection.found import Objects, on_canvas, on_original
from patchscale.tasks.detection.options import Options
from patchscale.tasks.pictures import png
from patchscale.tasks.task import Predicted, Trained

COLUMNS = ("image", "class", "score", "x0", "y0", "x1", "y1")


class _Source(NamedTuple):
    """An image to look at: its file, and how a COCO file names it."""

    file: Path
    image_id: int
    name: str


@torch.no_grad()
def predict(trained: Trained, paths: list[Path], out: Path, device: torch.device) -> Predicted:
    """Finds objects and writes `out`/predictions.json and one picture per image.

    The json and the rows hold every object above the task's `score_threshold`, the pictures those that are likely.

    Args:
        trained: a detector in evaluation mode and what goes with it.
        paths: image files, folders of images, or one COCO json, whose image and category ids are then kept.
        out: an existing folder.
        device: where the model is.

    Raises:
        InputError: nothing to read at a path, a file that is not a whole image, or a COCO json of other categories.
    """
    options = Options.model_validate(trained.options)
    sources, category_ids = _sources(paths, trained.classes)
    images, annotations, rows, lines = [], [], [], []
    for source in sources:
        image = open_image(source.file.read_bytes(), str(source.file))
        found = _look(trained, options, image, device)
        names = [trained.classes[label] for label in found.labels]
        images.append({"id": source.image_id, "file_name": source.name, "width": image.width, "height": image.height})
        for place, (name, score, box) in enumerate(
            zip(names, found.scores.tolist(), found.boxes.tolist(), strict=True)
        ):
            mask = None if found.masks is None else found.masks[place]
            entry = result(source.image_id, category_ids[found.labels[place]], score, box, mask)
            area = entry["bbox"][2] * entry["bbox"][3] if mask is None else masks.area(mask)
            annotations.append({"id": len(annotations) + 1, **entry, "area": area, "iscrowd": 0})
            corners = dict(zip(COLUMNS[3:], (round(side, 2) for side in box), strict=True))
            rows.append({"image": str(source.file), "class": name, "score": score, **corners})
        sure = np.flatnonzero(found.scores >= LEAST_SCORE)
        titles = [f"{names[place]} {found.scores[place]:.2f}" for place in sure]
        drawn_masks = None if found.masks is None else [found.masks[place] for place in sure]
        drawn = draw_objects(image, found.boxes[sure], titles, drawn_masks)
        write_bytes(out / _picture(source), png(drawn))
        counted = ", ".join(f"{number} {name}" for name, number in Counter(names[k] for k in sure).most_common())
        lines.append(f"{source.file}: {counted or 'nothing'} at score {LEAST_SCORE} or more, {len(names)} in all")
    content = {"images": images, "annotations": annotations, "categories": categories(category_ids, trained.classes)}
    write_json(out / "predictions.json", content)
    return Predicted(COLUMNS, rows, [*lines, f"COCO json: {out / 'predictions.json'}"])


def _look(trained: Trained, options: Options, image: Image.Image, device: torch.device) -> Objects:
    placement = fitted((image.height, image.width), trained.spec.input_size, options.short_side)
    pixels = np.ascontiguousarray(placement.pixels(image, trained.data.resample).transpose(2, 0, 1))
    canvas = on_canvas(torch.from_numpy(pixels)[None], trained.spec.input_size, trained.mean, trained.std)
    found = trained.model(canvas.to(device), [placement.shown])
    return on_original(found.detected[0], placement)


def _sources(paths: list[Path], classes: tuple[str, ...]) -> tuple[list[_Source], tuple[int, ...]]:
    if len(paths) == 1 and paths[0].suffix == ".json":
        data = load_boxes(DataSpec(name=str(paths[0])), "test")
        assert isinstance(data, FileBoxes)
        if data.classes != classes:
            raise InputError(
                f"{paths[0]} does not name the {len(classes)} categories of the weights, {classes[0]}, ..."
            )
        listed = zip(data.files, data.records, strict=True)
        return [_Source(file, record.image_id, record.name) for file, record in listed], data.category_ids
    files = image_files(paths)
    return [_Source(file, n, file.name) for n, file in enumerate(files, 1)], tuple(range(1, len(classes) + 1))


def _picture(source: _Source) -> str:
    return f"{source.image_id}_{Path(source.name).stem}.png"
