"""How an image becomes tokens, and how tokens change.

Patches at any size, learned and sin-cos positions, both resized to another patch size or input size, and sequences
made longer without new information.
"""

from patchscale.tokens.extension import ExtendedPatchEmbed
from patchscale.tokens.patchify import PatchEmbed, grid_size, patchify
from patchscale.tokens.positions import resize_positions, sincos_positions
from patchscale.tokens.resize import resize_patch_weight

__all__ = [
    "ExtendedPatchEmbed",
    "PatchEmbed",
    "grid_size",
    "patchify",
    "resize_patch_weight",
    "resize_positions",
    "sincos_positions",
]
