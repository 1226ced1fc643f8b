"""UperNet on a plain encoder: pooled context of the deepest features, and a feature pyramid over four depths.

"Unified Perceptual Parsing for Scene Understanding", section 3. Shape letters: B batch, D encoder width, C decoder
width, K classes, h x w the token grid, p patch size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchscale.errors import InputError

POOLED_GRIDS = (1, 2, 3, 6)
"""Sides of the grids to which the deepest features are averaged."""
FINEST = 4
"""The finest level has at most so many positions per token along each side."""


def level_scales(patch_size: int) -> tuple[float, float, float, float]:
    """Positions per token and side of the four levels: 4, 2, 1, 1/2; none finer than a pixel.

    Patches of 16 pixels give strides 4, 8, 16, 32, patches of 4 give 1, 2, 4, 8; below 4 pixels everything is shifted
    so that the finest level is the pixel grid (a patch of 1: scales 1, 1/2, 1/4, 1/8).
    """
    finest = min(FINEST, 2 ** int(math.log2(patch_size)))
    return finest, finest / 2, finest / 4, finest / 8


class Norm(nn.GroupNorm):
    """Group normalisation: the parameters of batch normalisation, but no sample depends on its neighbours.

    At most 8 groups, of 4 channels at least: a grid averaged to one position must still differ from zero.
    """

    def __init__(self, width: int) -> None:
        super().__init__(math.gcd(8, width // 4), width)


def conv_norm_relu(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    """Convolution at stride 1 with equal padding, normalisation, ReLU."""
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, Norm(outputs), nn.ReLU(inplace=True))


class Neck(nn.Module):
    """Four grids of different fineness out of four features of one grid, by transposed convolution or pooling."""

    def __init__(self, width: int, scales: Sequence[float]) -> None:
        super().__init__()
        self.levels = nn.ModuleList(_rescale(width, scale) for scale in scales)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Four times [B, D, h, w] -> [B, D, scale h, scale w] (at least one position a side)."""
        return [level(feature) for level, feature in zip(self.levels, features, strict=True)]


def _rescale(width: int, scale: float) -> nn.Module:
    if scale < 1:
        return _Shrink(round(1 / scale))
    layers: list[nn.Module] = []
    for doubling in range(round(math.log2(scale))):
        layers += [Norm(width), nn.GELU()] if doubling else []
        layers.append(nn.ConvTranspose2d(width, width, 2, stride=2))
    return nn.Sequential(*layers)


class _Shrink(nn.Module):
    """Maximum over squares of `factor` positions; squares at the border may be smaller, so no grid is too small."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, self.factor, ceil_mode=True)


class UperNet(nn.Module):
    """Logits at the finest level's grid.

    Args:
        embed_dim: D.
        patch_size: p; decides the levels' fineness, see `level_scales`.
        num_classes: K.
        channels: C.

    Raises:
        InputError: a width that the normalisation cannot group.
    """

    def __init__(self, embed_dim: int, patch_size: int, num_classes: int, channels: int) -> None:
        super().__init__()
        if channels < 4 or channels % 4:
            raise InputError(f"decoder channels {channels} is not a multiple of 4; use 192 for the published sizes")
        self.neck = Neck(embed_dim, level_scales(patch_size))
        self.pooled = nn.ModuleList(conv_norm_relu(embed_dim, channels, 1) for _ in POOLED_GRIDS)
        self.context = conv_norm_relu(embed_dim + len(POOLED_GRIDS) * channels, channels, 3)
        self.lateral = nn.ModuleList(conv_norm_relu(embed_dim, channels, 1) for _ in range(3))
        self.smooth = nn.ModuleList(conv_norm_relu(channels, channels, 3) for _ in range(3))
        self.fuse = conv_norm_relu(4 * channels, channels, 3)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Four features [B, D, h, w], shallow to deep -> [B, K, scale h, scale w]."""
        *fine, deepest = self.neck(features)
        levels = [lateral(feature) for lateral, feature in zip(self.lateral, fine, strict=True)]
        levels.append(self.context(self._with_context(deepest)))
        for coarser in (3, 2, 1):
            levels[coarser - 1] = levels[coarser - 1] + resize_like(levels[coarser], levels[coarser - 1])
        levels[:3] = [smooth(level) for smooth, level in zip(self.smooth, levels[:3], strict=True)]
        return self.classifier(self.fuse(torch.cat([resize_like(level, levels[0]) for level in levels], dim=1)))

    def _with_context(self, x: Tensor) -> Tensor:
        """[B, D, h, w] -> [B, D + 4C, h, w]: the features beside their averages over four coarse grids."""
        pooled = [
            resize_like(project(F.adaptive_avg_pool2d(x, grid)), x)
            for project, grid in zip(self.pooled, POOLED_GRIDS, strict=True)
        ]
        return torch.cat([x, *pooled], dim=1)


def resize_like(x: Tensor, other: Tensor) -> Tensor:
    """`x` [B, C, h, w] at the height and width of `other`, bilinear."""
    if x.shape[2:] == other.shape[2:]:
        return x
    return F.interpolate(x, size=other.shape[2:], mode="bilinear", align_corners=False)
