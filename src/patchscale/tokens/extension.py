"""A longer sequence without new information: the tokens of one patch size, interpolated to a finer grid.

B batch, D width, L tokens, s extension (per side: L grows by s^2).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from patchscale.errors import InputError
from patchscale.tokens.patchify import PatchEmbed


class ExtendedPatchEmbed(PatchEmbed):
    """`PatchEmbed` whose output grid is interpolated (bilinear) to s times as many rows and columns.

    The control of "Scaling Laws in Patchification", section 4.3 and table 5: a sequence as long as patches of size
    p / s give, with what patches of size p hold. `grid_size` and `num_patches` are those of the longer sequence.

    Args:
        extension: s.
        The rest as `PatchEmbed`.

    Raises:
        InputError: s below 1.
    """

    def __init__(self, *args, extension: int, **kwargs):
        if extension < 1:
            raise InputError(f"sequence_extension {extension} is below 1; use 1 (none), 2 (four times the tokens), ...")
        self.extension = extension
        super().__init__(*args, **kwargs)

    def _init_img_size(self, img_size):
        size, grid, count = super()._init_img_size(img_size)
        if grid is None or count is None:
            return size, grid, count
        s = self.extension
        return size, (grid[0] * s, grid[1] * s), count * s**2

    def dynamic_feat_size(self, img_size: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the longer sequence for an image of another size."""
        rows, cols = super().dynamic_feat_size(img_size)
        return rows * self.extension, cols * self.extension

    def embed(self, x: Tensor) -> Tensor:
        """Images to tokens [B, L, D] of the finer grid, before the norm."""
        rows, cols = x.shape[-2] // self.patch_size[0], x.shape[-1] // self.patch_size[0]
        tokens = super().embed(x).transpose(1, 2).unflatten(2, (rows, cols))
        finer = (rows * self.extension, cols * self.extension)
        return F.interpolate(tokens, size=finer, mode="bilinear").flatten(2).transpose(1, 2)
