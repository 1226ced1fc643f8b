"""COCO json: images, categories, and annotations with boxes and, if every one has them, masks."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from patchscale.data.boxes import masks
from patchscale.data.boxes.record import Objects, Problems, Record, checked_box
from patchscale.errors import InputError

FIELDS: dict[str, dict[str, type]] = {
    "images": {"id": int, "file_name": str, "height": int, "width": int},
    "categories": {"id": int, "name": str},
    "annotations": {},
}
"""Lists of a COCO file, and what each entry must hold; of annotations it is said one by one."""


@dataclass(frozen=True)
class Annotations:
    """A split that was read.

    Attributes:
        classes: category names in the order of their ids.
        category_ids: the ids, in the same order.
        records: one per image, in the file's order.
        has_masks: whether every object has a mask.
    """

    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    records: list[Record]
    has_masks: bool


def read_coco(file: Path, problems: Problems) -> Annotations:
    """Reads and checks a COCO instances file.

    Raises:
        InputError: it is not such a file; or, under the policy "fail", one annotation cannot be used: a box without
            area, outside its image or not finite, a mask that does not fit, an unknown image or category.
    """
    content = _load(file)
    categories = sorted(content["categories"], key=lambda category: category["id"])
    position = {category["id"]: label for label, category in enumerate(categories)}
    problems.repeated([category["id"] for category in categories], str(file), "category id")
    images = {image["id"]: image for image in content["images"]}
    problems.repeated([image["id"] for image in content["images"]], str(file), "image id")
    annotations = content["annotations"]
    with_masks = bool(annotations) and all(annotation.get("segmentation") for annotation in annotations)
    objects = {number: Objects() for number in images}
    for annotation in annotations:
        where = f"{file}, annotation {annotation.get('id', '?')}"
        number = annotation.get("image_id")
        image = images.get(number) if isinstance(number, int) else None
        if image is None:
            problems.found(where, f"there is no image {number!r}")
            continue
        try:
            _add(objects[image["id"]], annotation, image, position, with_masks)
        except InputError as error:
            problems.found(f"{where} of {image['file_name']}", str(error))
    records = [
        objects[number].record(image["file_name"], number, (image["height"], image["width"]), with_masks)
        for number, image in images.items()
    ]
    names = tuple(category["name"] for category in categories)
    return Annotations(names, tuple(position), records, with_masks)


def _add(
    objects: Objects, annotation: dict[str, Any], image: dict[str, Any], position: dict[int, int], with_masks: bool
) -> None:
    """Adds one checked annotation; raises InputError with what is wrong."""
    category = annotation.get("category_id")
    label = position.get(category) if isinstance(category, int) else None
    if label is None:
        known = ", ".join(map(str, list(position)[:5]))
        raise InputError(f"there is no category {category!r} (the file has {known}, ...)")
    numbers = annotation.get("bbox")
    if not isinstance(numbers, list) or len(numbers) != 4 or not all(isinstance(n, int | float) for n in numbers):
        raise InputError(f"bbox {numbers!r} is not four numbers x, y, width, height")
    x, y, width, height = (float(number) for number in numbers)
    size = (image["height"], image["width"])
    box, wrong = checked_box((x, y, x + width, y + height), size)
    if box is None:
        raise InputError(wrong)
    crowd, area = annotation.get("iscrowd", 0), (box[2] - box[0]) * (box[3] - box[1])
    if crowd not in (0, 1):
        raise InputError(f"iscrowd {crowd!r} is neither 0 nor 1")
    if with_masks:
        mask = masks.pack(annotation["segmentation"], size)
        if wrong := masks.disagreement(mask, box):
            raise InputError(wrong)
        area = masks.area(mask)
    area = _stated_area(annotation, area)
    if with_masks:
        objects.masks.append(mask)
    objects.boxes.append(box)
    objects.labels.append(label)
    objects.crowd.append(bool(crowd))
    objects.areas.append(area)


def _stated_area(annotation: dict[str, Any], counted: float) -> float:
    """An annotation's own area in pixels; the counted one where it states none."""
    area = annotation.get("area")
    if area is None:
        return counted
    if not isinstance(area, int | float) or not 0 <= area < math.inf:
        raise InputError(f"area {area!r} is not a number of pixels")
    return float(area)


def _load(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"cannot read {file} as COCO json: {error}") from error
    for key, fields in FIELDS.items():
        entries = content.get(key) if isinstance(content, dict) else None
        if not isinstance(entries, list):
            raise InputError(f"{file} is not a COCO instances file: it has no list {key!r}")
        for entry in entries:
            if not isinstance(entry, dict):
                raise InputError(f"{file}: an entry of {key!r} is {str(entry)[:120]}, not a mapping")
            for name, kind in fields.items():
                if name not in entry:
                    raise InputError(f"{file}: an entry of {key!r} lacks {name!r}: {str(entry)[:120]}")
                if not isinstance(entry[name], kind):
                    wanted = "a whole number" if kind is int else "text"
                    raise InputError(f"{file}: {name!r} in {key!r} must be {wanted}: {str(entry)[:120]}")
    if not content["images"] or not content["categories"]:
        raise InputError(f"{file} names no images or no categories; a set to train or score on needs both")
    return content
