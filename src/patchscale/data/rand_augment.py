"""RandAugment by timm's operations, each image from a seed of its own.

timm draws from Python's and numpy's global generators. Here its draws are made under a lock, with both seeded and put
back, and the slow part, changing pixels, runs outside it: batches that are prepared by several threads do not disturb
each other, and an image's result depends on its seed alone.
"""

from __future__ import annotations

import copy
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import auto_augment
from torch import Tensor

from patchscale.data.image_set import Colour

Change = Callable[[Image.Image], Image.Image]

_TRANSLATE = 0.45
"""Largest shift as a share of the shorter side: timm's choice for ImageNet recipes."""
_GLOBAL_GENERATORS = threading.Lock()


@lru_cache(maxsize=16)
def policy(text: str, shorter_side: int, fill: tuple[int, int, int]) -> auto_augment.RandAugment:
    """timm's RandAugment for a configuration such as `rand-m9-mstd0.5-inc1`.

    Args:
        text: timm's configuration string.
        shorter_side: of the images, pixels.
        fill: colour of what is shifted or turned into view.

    Raises:
        ValueError: the text is not such a configuration.
    """
    settings = {
        "translate_const": int(shorter_side * _TRANSLATE),
        "img_mean": fill,
        "interpolation": Image.Resampling.BICUBIC,
    }
    try:
        chosen = auto_augment.rand_augment_transform(text, settings)
    except (AssertionError, ValueError, KeyError) as error:
        raise ValueError(
            f"rand_augment {text!r} is not timm's RandAugment; use one like rand-m9-mstd0.5-inc1"
        ) from error

    for operation in chosen.ops:
        if operation.aug_fn is auto_augment.posterize:
            operation.aug_fn = _posterize
    return chosen


def _posterize(image: Image.Image, bits: int, **settings: Any) -> Image.Image:
    """timm's, which may ask for no bits at all: black in the Pillow of the published recipes, an error in today's."""
    return auto_augment.posterize(image, bits, **settings) if bits else Image.new(image.mode, image.size)


def rand_augment(images: Tensor, text: str, mean: Colour, seeds: Tensor) -> Tensor:
    """Changes each image of a batch.

    Args:
        images: uint8 [B, 3, H, W], left unchanged.
        text: timm's configuration string.
        mean: colour, 0..1, of what comes into view.
        seeds: int64 [B].

    Returns:
        uint8 [B, 3, H, W] on the CPU.
    """
    fill: Any = tuple(min(255, round(255 * value)) for value in mean)
    chosen = policy(text, min(images.shape[-2:]), fill)
    out = np.empty(images.shape, dtype=np.uint8)
    for row, (image, seed) in enumerate(zip(images.permute(0, 2, 3, 1).cpu().numpy(), seeds.tolist(), strict=True)):
        picture = Image.fromarray(image)
        for change in changes(chosen, seed):
            picture = change(picture)
        out[row] = np.asarray(picture).transpose(2, 0, 1)
    return torch.from_numpy(out)


def changes(chosen: auto_augment.RandAugment, seed: int) -> list[Change]:
    """What timm's transform would do after `random.seed(seed)` and `np.random.seed(seed % 2**32)`."""
    with _seeded(seed):
        operations = np.random.choice(
            chosen.ops, chosen.num_layers, chosen.choice_weights is None, chosen.choice_weights
        )
        drawn = [_draw(operation) for operation in operations]
    return [change for change in drawn if change is not None]


def _draw(operation: auto_augment.AugmentOp) -> Change | None:
    """The draws of one operation, in timm's order; none if it is not to be applied."""
    recorded: list[tuple] = []
    probe = copy.copy(operation)
    probe.aug_fn = lambda image, *levels, **settings: recorded.append(levels)
    probe(None)
    if not recorded:
        return None
    return lambda image: operation.aug_fn(image, *recorded[0], **operation.kwargs)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Python's and numpy's global generators seeded for this block alone."""
    with _GLOBAL_GENERATORS:
        before = random.getstate(), np.random.get_state()
        random.seed(seed)
        np.random.seed(seed % 2**32)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])
