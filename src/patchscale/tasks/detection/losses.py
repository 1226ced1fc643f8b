"""Losses that are means over images, so that the parts of a batch add up to the whole of it.

Within one image they are torchvision's: divided by the image's own number of samples. Shape letters: N samples of all
images, K classes with the ground (0).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

BETA = 1 / 9
"""Where the smooth L1 loss turns from a square to a line, as in torchvision."""


def shares(counts: list[int], device: torch.device) -> Tensor:
    """The weight of each sample [N]: 1 / (samples of its image x images)."""
    each = [torch.full((count,), 1 / (count * len(counts)), device=device) for count in counts if count]
    return torch.cat(each) if each else torch.zeros(0, device=device)


def box_loss(deltas: Tensor, wanted: Tensor, positive: Tensor, share: Tensor) -> Tensor:
    """Smooth L1 over the coordinates of the positive samples, summed; deltas and wanted [N, 4], positive bool [N]."""
    loss = F.smooth_l1_loss(deltas[positive], wanted[positive], beta=BETA, reduction="none").sum(dim=1)
    return (loss * share[positive]).sum()


def class_loss(logits: Tensor, labels: Tensor, share: Tensor) -> Tensor:
    """Cross-entropy of class logits [N, K]."""
    return (F.cross_entropy(logits, labels, reduction="none") * share).sum()


def objectness_loss(logits: Tensor, labels: Tensor, share: Tensor) -> Tensor:
    """Binary cross-entropy of [N] logits."""
    return (F.binary_cross_entropy_with_logits(logits, labels, reduction="none") * share).sum()


def mask_loss(logits: Tensor, wanted: Tensor, share: Tensor) -> Tensor:
    """Binary cross-entropy of mask logits [N, m, m], averaged over pixels; 0 for images without positive samples."""
    loss = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return (loss.mean(dim=(1, 2)) * share).sum()
