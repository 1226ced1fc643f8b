"""A feature pyramid from the one token grid of a plain encoder, at any patch size.

"Exploring Plain Vision Transformer Backbones for Object Detection", section 3, there for patch 16: maps at strides 4 to
64 are made of the last tokens alone, by transposed convolution where they are finer and by pooling where coarser.

Shape letters: B batch, D width of the encoder, C width of the pyramid, r x c token grid, p patch size.
"""

from __future__ import annotations

import math

import torch.nn.functional as F
from timm.layers.norm import LayerNorm2d
from torch import Tensor, nn

STRIDES = (4, 8, 16, 32, 64)


class TokenPyramid(nn.Module):
    """Tokens [B, D, r, c] to one map [B, C, ., .] per stride.

    The grid is continued by zeros to the right and below until the coarsest stride divides the canvas. A patch size
    that is no power of two is first resampled, bilinearly, to the next smaller one. The number of up-sampling layers
    is log2(p / 4), so it is the only part whose size depends on the patch size.
    """

    def __init__(self, embed_dim: int, patch_size: int, width: int) -> None:
        super().__init__()
        self.embed_dim, self.patch_size = embed_dim, patch_size
        self.start = 2 ** int(math.log2(patch_size))
        """Stride of the grid from which finer and coarser ones are made."""
        self.project = nn.Sequential(nn.Conv2d(embed_dim, width, 1), LayerNorm2d(width))
        finer = max(0, int(math.log2(self.start // STRIDES[0]))) if self.start > STRIDES[0] else 0
        self.finer = nn.ModuleList(
            nn.Sequential(nn.ConvTranspose2d(width, width, 2, stride=2), LayerNorm2d(width), nn.GELU())
            for _ in range(finer)
        )
        self.smooth = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=1), LayerNorm2d(width)) for _ in STRIDES
        )

    def canvas(self, size: tuple[int, int]) -> tuple[int, int]:
        """(H, W) of the padded canvas that the maps cover exactly."""
        coarsest = max(STRIDES[-1], self.start)
        height, width = (math.ceil(side / coarsest) * coarsest for side in size)
        return height, width

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        """Maps by stride, finest first, over `canvas((r p, c p))` pixels."""
        height, width = tokens.shape[-2] * self.patch_size, tokens.shape[-1] * self.patch_size
        x = self.project(tokens)
        if self.start != self.patch_size:
            size = math.ceil(height / self.start), math.ceil(width / self.start)
            x = F.interpolate(x, size=size, mode="bilinear", align_corners=False)
        rows, columns = (side // self.start for side in self.canvas((height, width)))
        x = F.pad(x, (0, columns - x.shape[-1], 0, rows - x.shape[-2]))
        maps = {self.start: x}
        for number, layer in enumerate(self.finer, start=1):
            maps[self.start >> number] = layer(maps[self.start >> (number - 1)])
        stride = self.start
        while stride < STRIDES[-1]:
            maps[2 * stride] = F.max_pool2d(maps[stride], 2)
            stride *= 2
        return {str(stride): smooth(maps[stride]) for stride, smooth in zip(STRIDES, self.smooth, strict=True)}
