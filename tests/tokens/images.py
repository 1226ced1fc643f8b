"""Real photographs for the tests of reducers, cut into patches."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from patchscale.data import DataSpec, load, normalise
from patchscale.tokens import patchify


def photographs(folder: Path, count: int, size: int = 32) -> Tensor:
    """[count, 3, size, size] of tiny-imagenet-100, normalised."""
    images = load(
        DataSpec(name="tiny-imagenet-100", root=str(folder / "tiny-imagenet-100"), limit_test=500), "test", (size, size)
    )
    return normalise(images.read(torch.arange(count)), images.mean, images.std)


def patches(folder: Path, count: int, patch_size: int = 4) -> Tensor:
    """[count, N, 3 p^2]."""
    return patchify(photographs(folder, count), patch_size)
