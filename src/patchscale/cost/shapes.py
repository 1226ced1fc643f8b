"""The shapes of every model the package can build: one table, read by `models` (to build) and `cost` (to count).

No torch here. DeiT: "Training data-efficient image transformers", tables 1 and 7 of the patchification paper;
Adventurer: the same table 7. `zepto` to `nano` are ours, for CPUs.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import Literal

from patchscale.errors import InputError

Family = Literal["deit", "adventurer"]


@dataclass(frozen=True)
class ModelShape:
    """What fixes the size of one encoder, patch embedding and head apart.

    Attributes:
        name: registered name, such as `deit_tiny_patch16`.
        family: `deit` (attention) or `adventurer` (Mamba-2).
        embed_dim: width D of the residual stream.
        depth: number of blocks.
        patch_size: the patch size in the name, used when none is given.
        num_heads: attention heads (deit) or SSD heads (adventurer).
        mlp_hidden: hidden width of the MLP (deit: 4 D, two products; adventurer: int(2.5 D), SwiGLU, three products).
        d_state: SSD state width N (adventurer; 0 for deit).
        d_conv: taps of the causal depthwise convolution (adventurer; 0 for deit).
        expand: inner width over D (adventurer; 0 for deit).
        headdim: SSD head width P (adventurer), attention head width (deit).
    """

    name: str
    family: Family
    embed_dim: int
    depth: int
    patch_size: int
    num_heads: int
    mlp_hidden: int
    headdim: int
    d_state: int = 0
    d_conv: int = 0
    expand: int = 0

    @property
    def d_inner(self) -> int:
        """Inner width of the Mamba-2 mixer (0 for deit)."""
        return self.expand * self.embed_dim


DEIT_SIZES = {
    # size: (embed_dim, depth, heads)
    "zepto": (16, 2, 1),
    "atto": (32, 2, 1),
    "femto": (48, 3, 3),
    "pico": (64, 4, 2),
    "nano": (128, 6, 4),
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
}
ADVENTURER_SIZES = {
    # size: (embed_dim, depth)
    "pico": (64, 4),
    "nano": (128, 6),
    "tiny": (256, 12),
    "small": (512, 12),
    "base": (768, 12),
    "large": (1024, 24),
    "huge": (1280, 32),
}
MLP_RATIO = {"deit": 4.0, "adventurer": 2.5}
D_STATE, HEADDIM, EXPAND, D_CONV = 64, 64, 2, 4


def _deit(size: str) -> ModelShape:
    dim, depth, heads = DEIT_SIZES[size]
    return ModelShape(
        name=f"deit_{size}_patch16",
        family="deit",
        embed_dim=dim,
        depth=depth,
        patch_size=16,
        num_heads=heads,
        mlp_hidden=int(MLP_RATIO["deit"] * dim),
        headdim=dim // heads,
    )


def _adventurer(size: str, patch_size: int) -> ModelShape:
    dim, depth = ADVENTURER_SIZES[size]
    return ModelShape(
        name=f"adventurer_{size}_patch{patch_size}",
        family="adventurer",
        embed_dim=dim,
        depth=depth,
        patch_size=patch_size,
        num_heads=EXPAND * dim // HEADDIM,
        mlp_hidden=int(MLP_RATIO["adventurer"] * dim),
        headdim=HEADDIM,
        d_state=D_STATE,
        d_conv=D_CONV,
        expand=EXPAND,
    )


_ALL = [_deit(size) for size in DEIT_SIZES] + [_adventurer(size, p) for p in (16, 1) for size in ADVENTURER_SIZES]
SHAPES: dict[str, ModelShape] = {shape.name: shape for shape in _ALL}

LCT_PATCHES = {"tiny": 16, "small": 16, "base": 16, "large": 16, "huge": 14}
LCT_SHAPES: dict[str, ModelShape] = {
    f"lct_vit_{size}_patch{p}": replace(_deit(size), name=f"lct_vit_{size}_patch{p}", patch_size=p)
    for size, p in LCT_PATCHES.items()
}
"""Models of "Fewer Tokens, Greater Scaling": DeiT's shapes over slots; they are no candidates of the planner."""


def shape_of(name: str) -> ModelShape:
    """The shape of a registered model.

    Raises:
        InputError: the name is unknown; the message lists the closest names.
    """
    known = SHAPES | LCT_SHAPES
    if name in known:
        return known[name]
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or sorted(known)
    raise InputError(f"unknown model {name!r}; use one of {', '.join(close)}")
