"""What `load_boxes` returns: annotated images by number, and each of them as a training target or a test view.

Shape letters: n objects, H height, W width of a canvas.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from patchscale.data.boxes import masks
from patchscale.data.boxes.geometry import Placement
from patchscale.data.boxes.record import Objects, Record
from patchscale.data.decode import open_image
from patchscale.data.image_set import IMAGENET_MEAN, IMAGENET_STD, Colour
from patchscale.data.scenes.scene import scene
from patchscale.data.scenes.vocabulary import SHAPES
from patchscale.data.spec import Split
from patchscale.errors import InputError

SMALLEST = 1.0
"""Objects of which less than so many pixels of width or height are left by a crop are no longer shown."""


class Target(NamedTuple):
    """The objects that a view shows, crowds left out.

    Attributes:
        boxes: float32 [n, 4], x0, y0, x1, y1 on the canvas.
        labels: int64 [n], positions in the classes.
        masks: uint8 [n, H, W], 0 or 1; None if the set has none or none were asked for.
    """

    boxes: Tensor
    labels: Tensor
    masks: Tensor | None


class BoxSet(ABC):
    """Annotated images of one split.

    Attributes:
        name: for tables and titles.
        split: "train" or "test".
        classes: names in label order.
        category_ids: COCO ids in the same order.
        has_masks: whether every object has a mask.
        skipped: annotations and images left out, each with its reason.
    """

    mean: Colour = IMAGENET_MEAN
    std: Colour = IMAGENET_STD

    def __init__(
        self,
        name: str,
        split: Split,
        classes: tuple[str, ...],
        category_ids: tuple[int, ...],
        has_masks: bool,
        skipped: tuple[str, ...] = (),
    ) -> None:
        self.name, self.split, self.classes, self.category_ids = name, split, classes, category_ids
        self.has_masks, self.skipped = has_masks, skipped

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def record(self, index: int) -> Record:
        """What is annotated in an image."""

    @abstractmethod
    def image(self, index: int) -> Image.Image:
        """The image, mode RGB; raises InputError if it cannot be read or is not of the annotated size."""

    def target(self, index: int, placement: Placement, canvas: tuple[int, int], with_masks: bool) -> Target:
        """The objects of an image as a placement shows them.

        Where a crop cuts an object whose mask is known, its box is that of the part still shown.
        """
        record = self.record(index)
        boxes = placement.boxes(record.boxes)
        sides = boxes[:, 2:] - boxes[:, :2]
        shown = np.flatnonzero((sides >= SMALLEST).all(axis=1) & ~record.crowd)
        boxes, labels = boxes[shown], record.labels[shown]
        if not with_masks:
            return Target(torch.from_numpy(boxes).float(), torch.from_numpy(labels), None)
        assert record.masks is not None, "the set has no masks"
        size = (record.height, record.width)
        pixels = placement.masks(masks.decode([record.masks[number] for number in shown], size))
        seen = pixels.any(axis=(1, 2))
        boxes, labels, shown, pixels = boxes[seen], labels[seen], shown[seen], pixels[seen]
        whole = placement._replace(top=0, left=0, shown=placement.scaled).boxes(record.boxes[shown])
        cut = ~np.isclose((whole[:, 2:] - whole[:, :2]), (boxes[:, 2:] - boxes[:, :2])).all(axis=1)
        for number in np.flatnonzero(cut):
            boxes[number] = _tight(pixels[number])
        out = np.zeros((len(pixels), *canvas), dtype=np.uint8)
        out[:, : placement.shown[0], : placement.shown[1]] = pixels
        return Target(torch.from_numpy(boxes).float(), torch.from_numpy(labels), torch.from_numpy(out))


class FileBoxes(BoxSet):
    """Images in files.

    Args:
        files: where each record's image lies.
        records: what is annotated.
        facts: the other attributes.
    """

    def __init__(self, files: list[Path], records: list[Record], **facts) -> None:
        super().__init__(**facts)
        self.files, self.records = files, records

    def __len__(self) -> int:
        return len(self.records)

    def record(self, index: int) -> Record:
        return self.records[index]

    def image(self, index: int) -> Image.Image:
        record, file = self.records[index], self.files[index]
        try:
            image = open_image(file.read_bytes(), str(file), skippable=True)
        except OSError as error:
            raise InputError(f"cannot read {file}: {error.strerror}") from error
        if image.size != (record.width, record.height):
            raise InputError(
                f"{file} is {image.width}x{image.height}, its annotations say {record.width}x{record.height} "
                "(width x height); annotate the image that is there, or put the annotated one back"
            )
        return image


class SceneBoxes(BoxSet):
    """Generated scenes at one size: a class is a shape, masks are the visible parts."""

    mean: Colour = (0.48, 0.46, 0.46)
    std: Colour = (0.21, 0.2, 0.215)

    def __init__(self, split: Split, count: int, size: tuple[int, int], seed: int) -> None:
        super().__init__("scenes", split, SHAPES, tuple(range(1, len(SHAPES) + 1)), has_masks=True)
        self.count = count
        self._draw = lru_cache(64)(lambda index: scene(index, size, seed=seed, split=split))

    def __len__(self) -> int:
        return self.count

    def record(self, index: int) -> Record:
        drawn, objects = self._draw(index), Objects()
        for item, box, mask in zip(drawn.objects, drawn.boxes.tolist(), drawn.masks, strict=True):
            objects.boxes.append(tuple(box))
            objects.labels.append(item.shape)
            objects.crowd.append(False)
            objects.areas.append(float(mask.sum()))
            objects.masks.append(masks.encode(mask))
        height, width = drawn.instances.shape
        return objects.record(f"scene {index}", index + 1, (height, width), with_masks=True)

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(self._draw(index).image)


def _tight(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
