"""Images to tokens: a reshape and one matrix product, at any patch size and any height x width.

B batch, C channels, H height, W width, p patch size, L = (H/p)(W/p) tokens in row-major order, D width.
"""

from __future__ import annotations

import math
from typing import Any

import torch.nn.functional as F
from timm.layers.format import Format
from timm.layers.patch_embed import PatchEmbed as TimmPatchEmbed
from torch import Tensor

from patchscale.errors import InputError


def grid_size(input_size: tuple[int, int], patch_size: int) -> tuple[int, int]:
    """Rows and columns of the token grid.

    Args:
        input_size: image height and width in pixels.
        patch_size: side of a square patch in pixels.

    Raises:
        InputError: the patch size does not divide a side; the message lists those that divide both.
    """
    height, width = input_size
    if height < 1 or width < 1:
        raise InputError(f"image size {height}x{width} is not positive; give height and width in pixels")
    for side, length in (("height", height), ("width", width)):
        if patch_size < 1 or length % patch_size:
            common = math.gcd(height, width)
            divisors = ", ".join(str(d) for d in range(1, common + 1) if common % d == 0)
            raise InputError(f"patch_size {patch_size} does not divide image {side} {length}; use one of {divisors}")
    return height // patch_size, width // patch_size


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cuts images into flat patches.

    Args:
        images: [B, C, H, W].
        patch_size: p; must divide H and W.

    Returns:
        [B, L, C*p*p]; each row in (channel, row, column) order, as a convolution weight flattens.
    """
    batch, channels, height, width = images.shape
    rows, cols = grid_size((height, width), patch_size)
    if patch_size == 1:
        return images.flatten(2).transpose(1, 2)
    patches = images.reshape(batch, channels, rows, patch_size, cols, patch_size)
    return patches.permute(0, 2, 4, 1, 3, 5).reshape(batch, rows * cols, channels * patch_size**2)


class PatchEmbed(TimmPatchEmbed):
    """timm's patch embedding with exact errors, computed as reshape + matrix product.

    The weight keeps the convolution's name and shape, `proj.weight` [D, C, p, p], so public checkpoints fit.
    Usable as timm's `embed_layer`. Patches are square.
    """

    img_size: Any
    patch_size: Any
    grid_size: Any
    num_patches: Any

    def __init__(self, img_size: int | tuple[int, int] | None = 224, *args, dynamic_img_pad: bool = False, **kwargs):
        super().__init__(None, *args, dynamic_img_pad=dynamic_img_pad, **kwargs)
        self.img_size, self.grid_size, self.num_patches = self._init_img_size(img_size)

    def _init_img_size(self, img_size: int | tuple[int, int] | None):
        if self.patch_size[0] != self.patch_size[1]:
            raise InputError(f"patch_size {self.patch_size} is not square; give one number")
        if img_size is None:
            return None, None, None
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        size, p = (int(height), int(width)), self.patch_size[0]
        if getattr(self, "dynamic_img_pad", False):
            rows, cols = -(-size[0] // p), -(-size[1] // p)
        else:
            rows, cols = grid_size(size, p)
        return size, (rows, cols), rows * cols

    def check_size(self, x: Tensor) -> None:
        """Raises InputError unless the images are of the size the model was built for."""
        if self.strict_img_size and self.img_size is not None and tuple(x.shape[-2:]) != self.img_size:
            got, want = "x".join(map(str, x.shape[-2:])), "x".join(map(str, self.img_size))
            raise InputError(f"images are {got}, the model was built for {want}; resize them or build it for {got}")

    def embed(self, x: Tensor) -> Tensor:
        """Images of any size that p divides to tokens [B, L, D], before the norm."""
        return F.linear(patchify(x, self.patch_size[0]), self.proj.weight.flatten(1), self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Images [B, C, H, W] to tokens [B, L, D] (or the grid format asked for by `output_fmt`)."""
        p = self.patch_size[0]
        if self.dynamic_img_pad:
            x = F.pad(x, (0, -x.shape[-1] % p, 0, -x.shape[-2] % p))
        else:
            self.check_size(x)
        grid_size((x.shape[-2], x.shape[-1]), p)
        tokens = self.embed(x)
        if not self.flatten:
            tokens = tokens.unflatten(1, self.dynamic_feat_size((x.shape[-2], x.shape[-1])))
            tokens = tokens if self.output_fmt == Format.NHWC else tokens.permute(0, 3, 1, 2)
        return self.norm(tokens)
