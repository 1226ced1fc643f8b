"""Labelled images for trials: sets by name or directory, held as uint8 or read from disk, and what is done to batches.

`load(DataSpec(...), split, input_size)` gives an `ImageSet`; `EpochSampler` or `RepeatSampler` says which images a step
sees; `Augment`, `Mixing` and `normalise` prepare batches.
"""

from patchscale.data.ahead import read_ahead
from patchscale.data.catalogue import KnownSet, describe, known_sets
from patchscale.data.draws import Draws
from patchscale.data.image_set import Crop, ImageSet
from patchscale.data.mixing import Mixing, whole_pairs
from patchscale.data.registry import load
from patchscale.data.sampler import EpochSampler, RepeatSampler, subset_size
from patchscale.data.spec import DataSpec
from patchscale.data.transforms import Augment, normalise

__all__ = [
    "Augment",
    "Crop",
    "DataSpec",
    "Draws",
    "EpochSampler",
    "ImageSet",
    "KnownSet",
    "Mixing",
    "RepeatSampler",
    "describe",
    "known_sets",
    "load",
    "normalise",
    "read_ahead",
    "subset_size",
    "whole_pairs",
]
