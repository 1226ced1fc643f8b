"""Encoders built of tokens and mixers: DeiT and Adventurer at any patch size and input size.

Importing this room registers `deit_*_patch16`, `adventurer_*_patch16` and `adventurer_*_patch1` with timm.
"""

from patchscale.models.adventurer import Adventurer
from patchscale.models.deit import DeiT
from patchscale.models.registry import create

__all__ = ["Adventurer", "DeiT", "create"]
