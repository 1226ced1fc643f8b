"""Real digits that come with scikit-learn: centred and plain, or at random places among clutter.

Centred images hide what small patches gain (a coarse patch always sees the same part of the object); freely placed
digits among distracting strokes show it within minutes, which is why `digits_in_clutter` is the embedded default.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import torch
from PIL import Image

from patchscale.data._random import below, draw
from patchscale.data.encoded import limit_positions
from patchscale.data.image_set import About, MemoryImages, grey
from patchscale.data.spec import DataSpec, Split
from patchscale.errors import InputError

CLASSES = tuple(str(digit) for digit in range(10))
TEST_DIGITS = 360
TRAIN_SIZE, TEST_SIZE = 8192, 2048
_PIECES = (2, 3, 4)  # sides of the clutter pieces, in eighths of a digit
_SPLIT_KEY = {"train": 0, "test": 1}


@cache
def source_digits(split: Split) -> tuple[np.ndarray, np.ndarray]:
    """The digits of one split: uint8 [m, 8, 8] (0 black, 255 white) and labels int64 [m].

    The file keeps each writer's digits together, so the last 360 of 1,797 are the test digits: mostly other hands
    than the training digits, where a shuffled split would put every hand on both sides.
    """
    from sklearn.datasets import load_digits

    values, targets = load_digits(return_X_y=True)
    images = np.rint(np.asarray(values).reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    labels = np.asarray(targets, dtype=np.int64)
    return (
        (images[:-TEST_DIGITS], labels[:-TEST_DIGITS])
        if split == "train"
        else (images[-TEST_DIGITS:], labels[-TEST_DIGITS:])
    )


def plain_digits(spec: DataSpec, split: Split, input_size: tuple[int, int]) -> MemoryImages:
    """scikit-learn's 8x8 digits, centred, enlarged to `input_size`."""
    images, labels = source_digits(split)
    kept = limit_positions(labels, spec.limit(split), spec.data_seed)
    images, labels = images[kept], labels[kept]
    height, width = input_size
    pixels = _enlarge(images, height, width)[:, None]
    about = About(
        name="digits",
        split=split,
        classes=CLASSES,
        labels=torch.from_numpy(labels),
        mean=grey(0.305),
        std=grey(0.376),
        source="scikit-learn",
        resample_note=f"8x8 originals brought to {height}x{width} (bicubic): more pixels, no more information",
    )
    return MemoryImages(about, pixels)


def digits_in_clutter(spec: DataSpec, split: Split, input_size: tuple[int, int]) -> MemoryImages:
    """One whole digit at a random place among pieces cut from other digits; the label is the whole digit's.

    Image i is a pure function of (data_seed, split, i, canvas) and of `digit_size` and `clutter`; train and test use
    disjoint digits, also for the clutter.

    Raises:
        InputError: the canvas is smaller than a digit.
    """
    height, width = input_size
    digit_size = spec.digit_size or max(8, min(height, width) // 2)
    if min(height, width) < digit_size:
        raise InputError(
            f"digits_in_clutter: a digit of {digit_size} pixels does not fit on a canvas of {height}x{width}; "
            f"use an input_size of at least {digit_size}, or a smaller digit_size"
        )
    count = spec.generated_size(split, TRAIN_SIZE if split == "train" else TEST_SIZE)
    parts = [
        _compose(spec, split, np.arange(start, min(start + 512, count)), height, width, digit_size)
        for start in range(0, count, 512)
    ]
    about = About(
        name="digits_in_clutter",
        split=split,
        classes=CLASSES,
        labels=torch.from_numpy(np.concatenate([labels for _, labels in parts])),
        mean=grey(0.095),
        std=grey(0.24),
        source="scikit-learn",
        resample_note=f"8x8 originals brought to {digit_size}x{digit_size} (bicubic), placed on {height}x{width}",
    )
    return MemoryImages(about, np.concatenate([pixels for pixels, _ in parts])[:, None])


def _compose(
    spec: DataSpec, split: Split, index: np.ndarray, height: int, width: int, digit_size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Images [b, H, W] and labels [b] at the positions `index`."""
    small, labels = source_digits(split)
    digits = _enlarge(small, digit_size, digit_size)
    canvas = np.zeros((len(index), height, width), dtype=np.uint8)
    base = draw(spec.data_seed, _SPLIT_KEY[split], height, width, index)
    chosen = below(draw(base, 0), len(digits))
    _paste(canvas, digits[chosen], draw(base, 1), draw(base, 2))

    pieces = math.floor(spec.clutter * height * width / digit_size**2 + 0.5)
    for piece in range(pieces):
        side = digit_size * _PIECES[piece % len(_PIECES)] // 8
        bits = [draw(base, 3 + piece, part) for part in range(5)]
        other = below(bits[0], len(digits) - 1)
        other = other + (other >= chosen)
        top = below(bits[1], digit_size - side + 1)[:, None, None] + np.arange(side)[:, None]
        left = below(bits[2], digit_size - side + 1)[:, None, None] + np.arange(side)
        _paste(canvas, digits[other[:, None, None], top, left], bits[3], bits[4])
    return canvas, labels[chosen]


def _paste(canvas: np.ndarray, stamps: np.ndarray, row_bits: np.ndarray, column_bits: np.ndarray) -> None:
    """Draws one stamp [b, h, w] on each image at a place given by random bits; the brighter pixel wins."""
    _, height, width = canvas.shape
    _, h, w = stamps.shape
    rows = below(row_bits, height - h + 1)[:, None, None] + np.arange(h)[:, None]
    columns = below(column_bits, width - w + 1)[:, None, None] + np.arange(w)
    image = np.arange(len(canvas))[:, None, None]
    canvas[image, rows, columns] = np.maximum(canvas[image, rows, columns], stamps)


def _enlarge(images: np.ndarray, height: int, width: int) -> np.ndarray:
    resized = [Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC) for image in images]
    return np.stack([np.asarray(image) for image in resized])
