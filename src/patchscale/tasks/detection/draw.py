"""Objects drawn on their image, for the eye."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from patchscale.data.boxes import masks as packed

LEAST_SCORE = 0.5
"""Objects below this score are found and listed, but not drawn."""
OPACITY = 0.45
GOLDEN = 0.618034


def draw_objects(
    image: Image.Image, boxes: np.ndarray, names: Sequence[str], masks: Sequence[dict[str, Any]] | None
) -> Image.Image:
    """The image with boxes [n, 4], their names (empty ones are left out) and, if given, masks; a colour per object.

    The first object is drawn last, so that the best one is never covered.
    """
    pixels = np.asarray(image).astype(np.float32)
    colours = [_colour(number) for number in range(len(boxes))]
    if masks is not None:
        for mask, colour in reversed(list(zip(masks, colours, strict=True))):
            inside = packed.decode([mask], pixels.shape[:2])[0].astype(bool)
            pixels[inside] = pixels[inside] * (1 - OPACITY) + np.asarray(colour) * OPACITY
    drawn = Image.fromarray(pixels.round().astype(np.uint8))
    pen = ImageDraw.Draw(drawn)
    for box, name, colour in reversed(list(zip(boxes.tolist(), names, colours, strict=True))):
        x0, y0, x1, y1 = box
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=colour)
        if name:
            pen.text((x0 + 2, y0 + 1), name, fill=colour)
    return drawn


def _colour(number: int) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb((number * GOLDEN) % 1.0, 0.75, 0.95)
    return round(255 * red), round(255 * green), round(255 * blue)
