"""Average precision by pycocotools, for boxes and masks, in all, by object size and by class.

Objects are written and read in COCO's own form, so that an exported file gives the same numbers as an evaluation.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from patchscale.data.boxes import BoxSet, Record

Kind = Literal["box", "mask"]
IOU_TYPES: dict[Kind, Any] = {"box": "bbox", "mask": "segm"}
SIZES = ("all", "small", "medium", "large")
"""COCO's ranges of area: small below 32 x 32 pixels, large from 96 x 96 on."""
THRESHOLDS = {"ap50": 0, "ap75": 5}
"""Positions of IoU 0.5 and 0.75 among pycocotools' ten."""


class Precision(NamedTuple):
    """What pycocotools counted for one kind; T overlaps 0.5 to 0.95, R recalls 0 to 1, K classes, 4 sizes.

    Attributes:
        values: precision [T, R, K, 4], -1 where a class has no object of that size.
        classes: names of the K classes.
    """

    values: np.ndarray
    classes: tuple[str, ...]

    def scores(self, kind: Kind) -> dict[str, float]:
        """`<kind>_ap`, `_ap50`, `_ap75`, `_ap_small`, `_ap_medium`, `_ap_large`; absent ones have no objects."""
        parts = {"ap": self.values[..., 0]}
        parts |= {name: self.values[place, ..., 0] for name, place in THRESHOLDS.items()}
        parts |= {f"ap_{size}": self.values[..., place] for place, size in enumerate(SIZES) if place}
        return {f"{kind}_{name}": float(part[part >= 0].mean()) for name, part in parts.items() if (part >= 0).any()}

    def by_class(self) -> dict[str, float]:
        """AP of each class that has objects."""
        parts = {name: self.values[:, :, place, 0] for place, name in enumerate(self.classes)}
        return {name: float(part.mean()) for name, part in parts.items() if (part >= 0).any()}

    def curve(self, overlap: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
        """Recall [R] and precision [R], averaged over the classes that have objects, at one overlap."""
        part = self.values[round((overlap - 0.5) / 0.05), :, :, 0]
        return np.linspace(0, 1, len(part)), part[:, (part >= 0).all(axis=0)].mean(axis=1)


def average_precision(
    truth: dict[str, Any], results: Sequence[dict[str, Any]], kind: Kind, largest: int = 100
) -> Precision:
    """Scores results against a COCO file's content.

    Args:
        truth: `images`, `annotations`, `categories` as COCO has them.
        results: `image_id`, `category_id`, `score`, `bbox` and, for masks, `segmentation`.
        kind: box or mask; only its own field is looked at.
        largest: objects of an image that count, best first (pycocotools' maxDets).
    """
    field = "bbox" if kind == "box" else "segmentation"
    found = [{key: one[key] for key in ("image_id", "category_id", "score", field)} for one in results]
    with contextlib.redirect_stdout(io.StringIO()):
        known = _indexed(truth)
        loaded = known.loadRes(found) if found else _indexed({**truth, "annotations": []})
        evaluation: Any = COCOeval(known, loaded, IOU_TYPES[kind])
        evaluation.params.maxDets = [largest]
        evaluation.evaluate()
        evaluation.accumulate()
    classes = tuple(category["name"] for category in sorted(truth["categories"], key=lambda c: c["id"]))
    return Precision(evaluation.eval["precision"][..., 0], classes)


def _indexed(content: dict[str, Any]) -> Any:
    known: Any = COCO()
    known.dataset = content
    known.createIndex()
    return known


def truth_of(data: BoxSet) -> dict[str, Any]:
    """A set's annotations as the content of a COCO file."""
    records = [data.record(index) for index in range(len(data))]
    annotations = [
        {"id": number, **one}
        for number, one in enumerate((one for record in records for one in _annotations(record, data)), start=1)
    ]
    return {
        "images": [image_entry(record) for record in records],
        "annotations": annotations,
        "categories": categories(data.category_ids, data.classes),
    }


def image_entry(record: Record) -> dict[str, Any]:
    """An image as a COCO file lists it."""
    return {"id": record.image_id, "file_name": record.name, "width": record.width, "height": record.height}


def categories(ids: Sequence[int], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Classes as a COCO file lists them."""
    return [{"id": number, "name": name} for number, name in zip(ids, classes, strict=True)]


def result(
    image_id: int, category_id: int, score: float, box: Sequence[float], mask: dict[str, Any] | None
) -> dict[str, Any]:
    """One found object as COCO's result files have it; box is x0, y0, x1, y1, the mask's counts become text."""
    x0, y0, x1, y1 = box
    entry = {"image_id": image_id, "category_id": category_id, "score": score, "bbox": [x0, y0, x1 - x0, y1 - y0]}
    return entry if mask is None else entry | {"segmentation": textual(mask)}


def textual(mask: dict[str, Any]) -> dict[str, Any]:
    """A packed mask that JSON can hold."""
    return {"size": list(mask["size"]), "counts": mask["counts"].decode("ascii")}


def _annotations(record: Record, data: BoxSet) -> list[dict[str, Any]]:
    entries = []
    for place, (x0, y0, x1, y1) in enumerate(record.boxes.tolist()):
        entry = {
            "image_id": record.image_id,
            "category_id": data.category_ids[record.labels[place]],
            "bbox": [x0, y0, x1 - x0, y1 - y0],
            "area": float(record.areas[place]),
            "iscrowd": int(record.crowd[place]),
        }
        if record.masks is not None:
            entry["segmentation"] = textual(record.masks[place])
        entries.append(entry)
    return entries
