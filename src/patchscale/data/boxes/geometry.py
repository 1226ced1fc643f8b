"""Where an image lies on the canvas of a batch, and what that does to boxes and masks; mirroring.

Shape letters: n objects, H height, W width of an image; h, w of what is shown of it on the canvas.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from PIL import Image

from patchscale.data._random import below, draw, unit
from patchscale.data.decode import FILTERS


class Placement(NamedTuple):
    """An image scaled to `scaled`, cut to a window, perhaps mirrored, and laid into the canvas's upper left corner.

    Attributes:
        original: (H, W).
        scaled: (H, W) after scaling.
        top: first row of the window, in scaled pixels.
        left: first column of the window.
        shown: (h, w) of the window.
        mirrored: whether left and right are exchanged at the end.
    """

    original: tuple[int, int]
    scaled: tuple[int, int]
    top: int
    left: int
    shown: tuple[int, int]
    mirrored: bool = False

    def pixels(self, image: Image.Image, resample: str) -> np.ndarray:
        """The image as shown, uint8 [h, w, 3]."""
        (rows, columns), (height, width), (h, w) = self.original, self.scaled, self.shown
        if (rows, columns) != self.scaled:
            across, down = columns / width, rows / height
            box = (self.left * across, self.top * down, (self.left + w) * across, (self.top + h) * down)
            image = image.resize((w, h), FILTERS[resample], box=box)
        else:
            image = image.crop((self.left, self.top, self.left + w, self.top + h))
        out = np.asarray(image)
        return out[:, ::-1] if self.mirrored else out

    def boxes(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes [n, 4] of the original as shown, clipped to the window (then possibly without area)."""
        down, across = self.scaled[0] / self.original[0], self.scaled[1] / self.original[1]
        out = boxes * [across, down, across, down] - [self.left, self.top, self.left, self.top]
        h, w = self.shown
        out = out.clip(0, [w, h, w, h])
        return mirror_boxes(out, w) if self.mirrored else out

    def masks(self, masks: np.ndarray) -> np.ndarray:
        """Masks [n, H, W] of the original as shown, [n, h, w]: each pixel takes the mask at its centre."""
        rows = ((np.arange(self.shown[0]) + self.top + 0.5) * self.original[0] / self.scaled[0]).astype(np.int64)
        columns = ((np.arange(self.shown[1]) + self.left + 0.5) * self.original[1] / self.scaled[1]).astype(np.int64)
        return masks[:, rows[:, None], (columns[::-1] if self.mirrored else columns)[None]]

    def back(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes [n, 4] on the canvas in pixels of the original."""
        if self.mirrored:
            boxes = mirror_boxes(boxes, self.shown[1])
        down, across = self.scaled[0] / self.original[0], self.scaled[1] / self.original[1]
        return (boxes + np.asarray([self.left, self.top, self.left, self.top])) / [across, down, across, down]


def mirror_boxes(boxes: np.ndarray, width: int) -> np.ndarray:
    """Boxes [n, 4] after left and right of an image of `width` pixels are exchanged."""
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)


def fitted(size: tuple[int, int], canvas: tuple[int, int], short_side: int | None = None) -> Placement:
    """The whole image, as large as the canvas allows; or its shorter side at `short_side` if that fits."""
    scaled = _scaled(size, _scale(size, canvas, short_side), canvas)
    return Placement(size, scaled, 0, 0, scaled)


def jittered(
    size: tuple[int, int],
    canvas: tuple[int, int],
    jitter: tuple[float, float],
    mirror: float,
    seed: int,
    place: int,
    short_side: int | None = None,
) -> Placement:
    """Large-scale jitter: `fitted` scaled by a random factor, cut at random where it exceeds the canvas, or padded.

    "Simple Copy-Paste Is a Strong Data Augmentation Method for Instance Segmentation", section 3.

    Args:
        size: (H, W) of the image.
        canvas: (H, W).
        jitter: least and largest factor; uniform between them.
        mirror: probability of exchanging left and right.
        seed: of the step.
        place: of the sample in the global batch; the result is a pure function of all arguments.
    """
    bits = draw(seed, place, np.arange(4))
    factor = jitter[0] + (jitter[1] - jitter[0]) * float(unit(bits[:1])[0])
    scale = _scale(size, canvas, short_side) * factor
    scaled = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    shown = min(scaled[0], canvas[0]), min(scaled[1], canvas[1])
    top = int(below(bits[1:2], scaled[0] - shown[0] + 1)[0])
    left = int(below(bits[2:3], scaled[1] - shown[1] + 1)[0])
    return Placement(size, scaled, top, left, shown, mirrored=bool(unit(bits[3:])[0] < mirror))


def _scale(size: tuple[int, int], canvas: tuple[int, int], short_side: int | None) -> float:
    largest = min(canvas[0] / size[0], canvas[1] / size[1])
    return largest if short_side is None else min(largest, short_side / min(size))


def _scaled(size: tuple[int, int], scale: float, canvas: tuple[int, int]) -> tuple[int, int]:
    height, width = (min(limit, max(1, round(side * scale))) for side, limit in zip(size, canvas, strict=True))
    return height, width
