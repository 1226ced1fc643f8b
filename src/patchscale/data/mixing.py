"""Mixup and CutMix: two images of a batch become one, and their labels become soft targets.

Label smoothing is the loss's business; here targets only mix.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Generator, Tensor


class Mixing(BaseModel):
    """How to mix; one draw a batch, as in timm's batch mode, but neighbours in pairs: 0 with 1, 2 with 3, ...

    Pairs, unlike timm's mirror places, stay together when a batch is divided; the last image of an odd batch has no
    partner but itself.

    Attributes:
        mixup_alpha: Beta(alpha, alpha) of mixup's share (Zhang et al.); 0: off.
        cutmix_alpha: the same for CutMix (Yun et al.); 0: off.
        probability: share of batches that are mixed at all.
        switch_probability: share of CutMix where both are on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mixup_alpha: float = Field(default=0.0, ge=0.0)
    cutmix_alpha: float = Field(default=0.0, ge=0.0)
    probability: float = Field(default=1.0, ge=0.0, le=1.0)
    switch_probability: float = Field(default=0.5, ge=0.0, le=1.0)

    @property
    def active(self) -> bool:
        """Whether any batch is mixed."""
        return self.probability > 0 and (self.mixup_alpha > 0 or self.cutmix_alpha > 0)

    def __call__(self, images: Tensor, labels: Tensor, num_classes: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Mixes a batch.

        Args:
            images: float [B, C, H, W], left unchanged: a whole batch, or whole pairs of one.
            labels: int64 [B].
            num_classes: K.
            generator: CPU generator.

        Returns:
            images [B, C, H, W] and targets float32 [B, K] whose rows sum to 1.
        """
        targets = F.one_hot(labels, num_classes).float()
        mixed, cut = torch.rand(2, generator=generator).tolist()
        numpy_generator = np.random.default_rng(int(torch.randint(2**62, (1,), generator=generator)))
        if not self.active or mixed >= self.probability:
            return images, targets
        use_cutmix = self.cutmix_alpha > 0 and (self.mixup_alpha == 0 or cut < self.switch_probability)
        if use_cutmix:
            keep = float(numpy_generator.beta(self.cutmix_alpha, self.cutmix_alpha))
            images, keep = cutmix(images, keep, *numpy_generator.random(2).tolist())
        else:
            keep = float(numpy_generator.beta(self.mixup_alpha, self.mixup_alpha))
            images = images * keep + images[partners(len(images))] * (1 - keep)
        return images, targets * keep + targets[partners(len(images))] * (1 - keep)


def whole_pairs(rows: slice, batch: int) -> slice:
    """The smallest run of whole pairs of a batch of `batch` images that holds `rows`."""
    start, stop, _ = rows.indices(batch)
    return slice(start - start % 2, min(batch, stop + stop % 2))


def partners(count: int) -> Tensor:
    """The row that each of `count` rows is mixed with: 1, 0, 3, 2, ...; int64 [count]."""
    other = torch.arange(count) ^ 1
    return torch.where(other < count, other, count - 1)


def cutmix(images: Tensor, keep: float, row: float, column: float) -> tuple[Tensor, float]:
    """Replaces a rectangle of every image by that of its partner.

    Args:
        images: [B, C, H, W].
        keep: wanted share of the own image.
        row: centre of the rectangle, 0..1 of the height.
        column: the same for the width.

    Returns:
        new images and the share kept after clipping at the borders.
    """
    height, width = images.shape[-2:]
    h, w = math.sqrt(1 - keep) * height, math.sqrt(1 - keep) * width
    top, bottom = (min(max(round(row * height + side * h / 2), 0), height) for side in (-1, 1))
    left, right = (min(max(round(column * width + side * w / 2), 0), width) for side in (-1, 1))
    images, other = images.clone(), images[partners(len(images))]
    images[..., top:bottom, left:right] = other[..., top:bottom, left:right]
    return images, 1 - (bottom - top) * (right - left) / (height * width)
