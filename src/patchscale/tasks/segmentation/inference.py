"""Logits for images of any size, from a model trained on one: the whole image at once, or windows of the trained size.

Shape letters: B batch, K classes, H x W an image, h x w the window.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchscale.tasks.segmentation.model import Segmenter, pad_to_patches
from patchscale.tasks.task import Autocast


@torch.no_grad()
def logits_at(
    model: nn.Module, inputs: Tensor, autocast: Autocast, size: Sequence[int], inference: str, step: float
) -> Tensor:
    """Float32 logits [B, K, *size] of normalised images [B, 3, H, W] of any size.

    Args:
        model: a `Segmenter` in evaluation mode.
        inputs: normalised images.
        autocast: number format of the model.
        size: height and width of the result, to which logits are interpolated.
        inference: `whole` or `slide`.
        step: from window to window, as a share of the window.
    """
    assert isinstance(model, Segmenter)
    with autocast():
        logits = whole_logits(model, inputs) if inference == "whole" else sliding_logits(model, inputs, step)
    if tuple(logits.shape[2:]) == tuple(size):
        return logits
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)


@torch.no_grad()
def whole_logits(model: Segmenter, images: Tensor) -> Tensor:
    """Normalised images [B, 3, H, W] of any size -> float32 logits [B, K, H, W].

    The image is extended to multiples of the patch size; positions are resized to its grid.
    """
    height, width = images.shape[-2:]
    return model(pad_to_patches(images, model.patch_size))[..., :height, :width].float()


@torch.no_grad()
def sliding_logits(model: Segmenter, images: Tensor, step: float) -> Tensor:
    """Normalised images [B, 3, H, W] of any size -> float32 logits [B, K, H, W], the mean of overlapping windows.

    Windows have the trained size; an image smaller than that is extended to it.

    Args:
        model: the model.
        images: normalised.
        step: from window to window, as a share of the window's side.
    """
    (h, w), (height, width) = model.input_size, images.shape[-2:]
    images = F.pad(images, (0, max(0, w - width), 0, max(0, h - height)))
    sums = images.new_zeros((len(images), model.num_classes, *images.shape[-2:]), dtype=torch.float32)
    counts = images.new_zeros(images.shape[-2:], dtype=torch.float32)
    for top in window_starts(images.shape[-2], h, step):
        for left in window_starts(images.shape[-1], w, step):
            part = (..., slice(top, top + h), slice(left, left + w))
            sums[part] += model(images[part]).float()
            counts[part] += 1
    return (sums / counts)[..., :height, :width]


def window_starts(length: int, window: int, step: float) -> list[int]:
    """Where windows begin along a side of at least `window` pixels: evenly stepped, the last flush with the end."""
    stride = max(1, round(window * step))
    return [min(start, length - window) for start in range(0, length - window + stride, stride)]
