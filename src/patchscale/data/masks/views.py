"""Images and their masks cut and changed together.

Shape letters: B batch, H x W the canvas, h x w an image as it is stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from patchscale.data.decode import FILTERS
from patchscale.data.draws import Draws
from patchscale.data.masks.labels import IGNORED
from patchscale.errors import InputError

ATTEMPTS = 10
"""Places tried for a crop that no single class fills."""
SLENDER = 16
"""Images whose sides differ by so many times more than the canvas's are refused."""

Decoded = tuple[np.ndarray, np.ndarray]
"""An image uint8 [h, w, 3] and its mask uint8 [h, w]."""


def covering(size: tuple[int, int], canvas: tuple[int, int], scale: float = 1.0) -> tuple[int, int]:
    """Height and width of an image of `size` resized, shape kept, so that it covers the canvas; times `scale`."""
    factor = max(canvas[0] / size[0], canvas[1] / size[1]) * scale
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def check_shape(size: tuple[int, int], canvas: tuple[int, int], name: str) -> None:
    """Raises InputError for an image so slender that covering the canvas would enlarge it beyond reason."""
    wide, wanted = size[1] / size[0], canvas[1] / canvas[0]
    if max(wide / wanted, wanted / wide) > SLENDER:
        raise InputError(
            f"image {name} is {size[0]}x{size[1]} (height x width), more than {SLENDER} times as slender as the input "
            f"size {canvas[0]}x{canvas[1]}; cut it into pieces"
        )


def resized(pair: Decoded, size: tuple[int, int], resample: str) -> Decoded:
    """The whole pair at another size; classes are never mixed."""
    image, mask = pair
    return _resize(image, size, FILTERS[resample]), _resize(mask, size, Image.Resampling.NEAREST)


def scale_crops(
    pairs: Sequence[Decoded],
    canvas: tuple[int, int],
    draws: Draws,
    *,
    scale: tuple[float, float],
    most_of_one_class: float,
    resample: str,
    fill: tuple[int, int, int],
) -> tuple[Tensor, Tensor]:
    """A random part of each pair at a random scale.

    An image smaller than the canvas is placed on it at random; what is left is `fill` and `IGNORED`. Of `ATTEMPTS`
    places the first is taken in which no class has more than its share of the counted pixels, else the last.

    Args:
        pairs: B pairs, one for every row that `draws` hands out numbers for.
        canvas: (H, W).
        draws: random numbers.
        scale: range of the factor on the size that just covers the canvas.
        most_of_one_class: largest share of one class; 1: any.
        resample: filter for images; masks take the nearest pixel.
        fill: colour where there is no image.

    Returns:
        uint8 [B, 3, H, W] and uint8 [B, H, W].
    """
    scales = draws.uniform(*scale).tolist()
    places = draws.uniform(0.0, 1.0, ATTEMPTS, 2).permute(2, 0, 1).tolist()
    images = np.empty((len(pairs), *canvas, 3), dtype=np.uint8)
    images[:] = fill
    masks = np.full((len(pairs), *canvas), IGNORED, dtype=np.uint8)
    for row, (image, mask) in enumerate(pairs):
        size = covering(mask.shape, canvas, scales[row])  # pyright: ignore[reportArgumentType]
        for place in places[row] if most_of_one_class < 1 else places[row][:1]:
            spans = [_span(size[axis], canvas[axis], place[axis]) for axis in (0, 1)]
            part = _cut(mask, size, spans, Image.Resampling.NEAREST)
            counts = np.bincount(part[part != IGNORED], minlength=1)
            if counts.max() <= most_of_one_class * counts.sum():
                break
        at = tuple(slice(onto, onto + length) for _, onto, length in spans)
        masks[row][at] = part
        images[row][at] = _cut(image, size, spans, FILTERS[resample])
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(masks)


def flip(images: Tensor, masks: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Mirrors left and right the chosen (bool [B]) images [B, 3, H, W] and masks [B, H, W]."""
    images = torch.where(chosen[:, None, None, None], images.flip(-1), images)
    return images, torch.where(chosen[:, None, None], masks.flip(-1), masks)


def _span(length: int, canvas: int, place: float) -> tuple[int, int, int]:
    """Along one side: where the part starts in the image, where on the canvas, and how long it is."""
    free = abs(length - canvas)
    start = min(int(place * (free + 1)), free)
    return (start, 0, canvas) if length >= canvas else (0, start, length)


def _cut(
    pixels: np.ndarray, size: tuple[int, int], spans: list[tuple[int, int, int]], resample: Image.Resampling
) -> np.ndarray:
    """The part of `pixels`, resized to `size`, that `spans` name; only that part is computed."""
    (top, _, height), (left, _, width) = spans
    down, across = pixels.shape[0] / size[0], pixels.shape[1] / size[1]
    box = (left * across, top * down, (left + width) * across, (top + height) * down)
    box = (*box[:2], min(box[2], pixels.shape[1]), min(box[3], pixels.shape[0]))
    return np.asarray(Image.fromarray(pixels).resize((width, height), resample, box=box))


def _resize(pixels: np.ndarray, size: tuple[int, int], resample: Image.Resampling) -> np.ndarray:
    if pixels.shape[:2] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), resample))
