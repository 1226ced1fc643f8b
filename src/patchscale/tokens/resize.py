"""Patch-embedding weights at another patch size, by pseudo-inverse ("FlexiViT", section 3.4, equation 5)."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor


@lru_cache(maxsize=64)
def _pseudo_inverse(old_patch: int, new_patch: int) -> Tensor:
    """pinv(R^T) [new^2, old^2] in float64, with R [new^2, old^2] the bilinear resize of an old patch to a new one."""
    size = (new_patch, new_patch)
    with torch.inference_mode(False):  # kept for training, too, whoever asks first
        basis = torch.eye(old_patch**2, dtype=torch.float64).unflatten(1, (1, old_patch, old_patch))
        resized = F.interpolate(basis, size=size, mode="bilinear", antialias=True, align_corners=False)
        return torch.linalg.pinv(resized.flatten(1))


def resize_patch_weight(weight: Tensor, new_patch: int) -> Tensor:
    """The weight whose products with resized patches are closest to the old products with the old patches.

    When the patch grows the products are equal: <resize(x), new> = <x, old> for every patch x.

    Args:
        weight: [D, C, p, p].
        new_patch: the new p.

    Returns:
        [D, C, new_patch, new_patch], same dtype and device; gradients pass through.
    """
    old_patch = weight.shape[-1]
    if old_patch == new_patch:
        return weight
    exact = torch.float32 if weight.device.type == "mps" else torch.float64
    matrix = _pseudo_inverse(old_patch, new_patch).to(weight.device, exact)
    flat = weight.to(exact).flatten(2) @ matrix.T
    return flat.reshape(*weight.shape[:2], new_patch, new_patch).to(weight.dtype)
