"""From an image to the canvas of a detector, and from what it gives there back to the pixels of the image."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from patchscale.data import normalise
from patchscale.data.boxes import Placement, masks

MASKS_AT_ONCE = 32
"""Masks laid into full images at a time, which bounds memory."""


class Objects(NamedTuple):
    """Objects of one image, best first.

    Attributes:
        boxes: float64 [n, 4], x0, y0, x1, y1 in pixels of the original.
        scores: float32 [n].
        labels: int64 [n], positions in the classes.
        masks: packed masks of the original's size; None without a mask head.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: list[dict[str, Any]] | None


def on_canvas(
    pixels: Tensor, canvas: tuple[int, int], mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """uint8 [1, 3, h, w] to normalised float32 [1, 3, H, W], zero beyond the image."""
    out = torch.zeros(1, 3, *canvas)
    out[..., : pixels.shape[-2], : pixels.shape[-1]] = normalise(pixels, mean, std)
    return out


def on_original(found: dict[str, Tensor], placement: Placement) -> Objects:
    """Moves boxes and masks from the canvas to the original image.

    Args:
        found: `boxes` [n, 4] on the canvas, `scores`, `labels` from 1, `masks` [n, 1, m, m] of probabilities.
        placement: how the image was laid on the canvas.
    """
    boxes = placement.back(found["boxes"].double().cpu().numpy())
    height, width = placement.original
    boxes = boxes.clip(0, [width, height, width, height])
    packed = None
    if "masks" in found:
        packed = _packed(found["masks"].cpu(), torch.from_numpy(boxes).float(), placement.original)
    return Objects(boxes, found["scores"].cpu().numpy(), found["labels"].cpu().numpy() - 1, packed)


def _packed(probabilities: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[dict[str, Any]]:
    out = []
    for part, where in zip(probabilities.split(MASKS_AT_ONCE), boxes.split(MASKS_AT_ONCE), strict=True):
        pasted = paste_masks_in_image(part, where, size)[:, 0] >= 0.5
        out += [masks.encode(mask) for mask in pasted.numpy()]
    return out
