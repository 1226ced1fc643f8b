"""Images with a class for every pixel: sets by name or directory, and what is done to images and masks together."""

from patchscale.data.masks.labels import IGNORED, Labels
from patchscale.data.masks.mask_set import MASK_SETS, MaskSet, load_masks
from patchscale.data.masks.views import check_shape, covering, flip, resized, scale_crops

__all__ = [
    "IGNORED",
    "MASK_SETS",
    "Labels",
    "MaskSet",
    "check_shape",
    "covering",
    "flip",
    "load_masks",
    "resized",
    "scale_crops",
]
