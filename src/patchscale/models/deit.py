"""DeiT: timm's `VisionTransformer` at any patch size, with learned or fixed sin-cos positions.

P prefix rows (the class token's), N tokens, D width.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from patchscale.errors import InputError
from patchscale.tokens import ExtendedPatchEmbed, PatchEmbed, sincos_positions

Positions = Literal["learned", "sincos"]


def check_positions(positions: str) -> None:
    """Raises InputError unless `positions` is `learned` or `sincos`."""
    if positions not in ("learned", "sincos"):
        raise InputError(f"unknown positions {positions!r}; use learned or sincos")


class DeiT(VisionTransformer):
    """timm's ViT with reshape + matrix-product patches; the class token is first.

    Args:
        positions: `learned`, or `sincos`: fixed, zeros in the class row, not trained.
        sequence_extension: interpolates the tokens to so many times the rows and columns (`ExtendedPatchEmbed`).
        The rest as in `timm.models.vision_transformer.VisionTransformer`.
    """

    def __init__(
        self, *args, positions: Positions = "learned", sequence_extension: int = 1, embed_layer=PatchEmbed, **kwargs
    ):
        check_positions(positions)
        if sequence_extension != 1:
            embed_layer = partial(ExtendedPatchEmbed, extension=sequence_extension)
        super().__init__(*args, embed_layer=embed_layer, **kwargs)
        self.positions = positions
        self._fix_positions()

    def _fix_positions(self) -> None:
        pos = self.pos_embed
        if self.positions == "learned" or pos is None:
            return
        table = torch.empty_like(pos) if pos.is_meta else self.fixed_positions(self.patch_embed.grid_size).to(pos)
        self.pos_embed = nn.Parameter(table, requires_grad=False)

    def fixed_positions(self, grid: tuple[int, int]) -> Tensor:
        """Sin-cos positions [1, P + N, D] of a grid, zeros in the prefix rows."""
        prefix = 0 if self.no_embed_class else self.num_prefix_tokens
        return F.pad(sincos_positions(grid, self.embed_dim), (0, 0, prefix, 0))[None]

    def set_input_size(self, img_size=None, patch_size=None) -> None:
        """As timm's; sin-cos positions are made anew, not interpolated."""
        super().set_input_size(img_size, patch_size)
        self._fix_positions()
