"""`lct_vit_*`: the models of "Fewer Tokens, Greater Scaling" (2511.19515) as released: a ViT over K slots.

Filtering as released before the first block, with the class token routed like any token; all blocks run on the K slots
alone; the head reads the mean of slots 1 to K - 1 (slot 0 is dropped as if it were the class token). Positions are
MAE's fixed ones. The release has base, large and huge; tiny and small are the paper's.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from patchscale.models.deit import DeiT
from patchscale.models.reduction import reduce_tokens

RELEASED_SLOTS = 64


class LctViT(DeiT):
    """A ViT whose blocks see `kept_tokens` slots.

    Args:
        kept_tokens: K, all rows that the blocks see.
        The rest as in `DeiT`; positions are fixed, in MAE's order, so that MAE's weights fit at any patch size.
    """

    def __init__(self, *args, kept_tokens: int = RELEASED_SLOTS, global_pool: str = "avg", **kwargs: Any):
        super().__init__(*args, global_pool=global_pool, **{**kwargs, "positions": "sincos"})
        reduce_tokens(self, "filtering_released", kept_tokens, class_token="routed")

    def fixed_positions(self, grid: tuple[int, int]) -> Tensor:
        """MAE's table: the first half of the width encodes the column, the second the row."""
        return super().fixed_positions(grid).roll(self.embed_dim // 2, dims=2)


def trainable_parameters(model: nn.Module) -> int:
    """Parameters that training changes: fixed positions are not among them."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
