"""One encoder at many patch sizes: its patch weight and positions resized on the fly, with gradient ("FlexiViT")."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from patchscale.errors import InputError
from patchscale.models.adventurer import Adventurer
from patchscale.tokens import PatchEmbed, grid_size, resize_patch_weight, resize_positions


class AtPatchSize(nn.Module):
    """A view of an encoder at another patch size than it was built for; the weights stay the encoder's.

    Args:
        encoder: a DeiT or an Adventurer, with learned or fixed positions.
        patch_size: p of this view; must divide the encoder's input size.

    Raises:
        InputError: it does not, or the encoder is of another kind.
    """

    def __init__(self, encoder: nn.Module, patch_size: int) -> None:
        super().__init__()
        if type(encoder.patch_embed) is not PatchEmbed:
            raise InputError(
                "only models of patchscale change their patch size on the fly; use a deit_* or adventurer_*, without "
                "sequence_extension"
            )
        self.encoder, self.patch_size = encoder, patch_size
        self.grid = grid_size(encoder.patch_embed.img_size, patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """What the encoder gives of images [B, 3, H, W] cut into patches of this size."""
        embed: Any = self.encoder.patch_embed
        if embed.patch_size[0] == self.patch_size:
            return self.encoder(images)
        with torch.autocast(images.device.type, enabled=False):
            weights = {
                "patch_embed.proj.weight": resize_patch_weight(embed.proj.weight, self.patch_size),
                "pos_embed": self._positions(),
            }
        with _cut_into(embed, self.patch_size, self.grid):
            return functional_call(self.encoder, weights, (images,))

    def _positions(self) -> Tensor:
        """[1, N + 1, D] on this view's grid: learned ones interpolated, fixed ones made anew."""
        encoder: Any = self.encoder
        if getattr(encoder, "positions", "learned") == "sincos":
            return encoder.fixed_positions(self.grid).to(encoder.pos_embed)
        row = "last" if isinstance(encoder, Adventurer) else "first"
        return resize_positions(encoder.pos_embed, encoder.patch_embed.grid_size, self.grid, class_row=row)


@contextmanager
def _cut_into(embed: Any, patch_size: int, grid: tuple[int, int]) -> Iterator[None]:
    """The patch embedding cuts patches of this size inside the block."""
    before = embed.patch_size, embed.grid_size, embed.num_patches
    embed.patch_size, embed.grid_size, embed.num_patches = (patch_size, patch_size), grid, grid[0] * grid[1]
    try:
        yield
    finally:
        embed.patch_size, embed.grid_size, embed.num_patches = before
