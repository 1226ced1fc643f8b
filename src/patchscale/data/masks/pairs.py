"""Which image belongs to which mask: the common layouts of a folder, and the sets known by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from patchscale.data._random import draw
from patchscale.data.decode import is_image_name
from patchscale.data.directory import SPLIT_FOLDERS
from patchscale.data.spec import DataSpec, Split
from patchscale.errors import InputError

MASK_FOLDERS = ("masks", "annotations", "labels")
MASK_ENDINGS = ("annot", "_masks", "_labels")
LAYOUTS = (
    "train.txt and val.txt with an image and a mask path a line; images/train and masks/train; train/images and "
    "train/masks; train and trainannot; or images and masks with data.test_fraction"
)


@dataclass(frozen=True)
class Pair:
    """An image file and its mask file."""

    image: Path
    mask: Path


def find_pairs(folder: Path, spec: DataSpec, split: Split, names: Sequence[str] | None = None) -> list[Pair]:
    """The pairs of a split in a known order.

    Args:
        folder: the set's folder.
        spec: gives `test_fraction`, for a folder without splits, and `data_seed`.
        split: "train" or "test".
        names: what the split is called; None: the common names.

    Raises:
        InputError: no layout is recognised, or an image and a mask without each other.
    """
    for name in names or SPLIT_FOLDERS[split]:
        if (listing := folder / f"{name}.txt").is_file():
            return _listed(listing)
        places = [(folder / "images" / name, folder / masks / name) for masks in MASK_FOLDERS]
        places += [(folder / name / "images", folder / name / masks) for masks in MASK_FOLDERS]
        places += [(folder / name, folder / f"{name}{ending}") for ending in MASK_ENDINGS]
        for images, masks in places:
            if images.is_dir() and masks.is_dir():
                return _matched(images, masks)
    whole = next((masks for masks in MASK_FOLDERS if (folder / "images").is_dir() and (folder / masks).is_dir()), None)
    if whole is None:
        raise InputError(f"{folder} holds no image and mask pairs for split {split}; known layouts: {LAYOUTS}")
    if spec.test_fraction is None:
        raise InputError(f"{folder} has no {split} split; set data.test_fraction to hold out a share for test")
    pairs = _matched(folder / "images", folder / whole)
    order = np.argsort(draw(spec.data_seed, np.arange(len(pairs))), kind="stable")
    held_out = max(1, round(spec.test_fraction * len(pairs)))
    if held_out >= len(pairs):
        raise InputError(f"test_fraction {spec.test_fraction} of {len(pairs)} pairs leaves none to train on; lower it")
    chosen = order[:held_out] if split == "test" else order[held_out:]
    return [pairs[index] for index in np.sort(chosen).tolist()]


def limited(pairs: list[Pair], limit: int | None, seed: int) -> list[Pair]:
    """At most `limit` pairs, in their old order; a larger limit contains every smaller one."""
    if limit is None or limit >= len(pairs):
        return pairs
    chosen = np.argsort(draw(seed, 1, np.arange(len(pairs))), kind="stable")[:limit]
    return [pairs[index] for index in np.sort(chosen).tolist()]


def _listed(listing: Path) -> list[Pair]:
    """Pairs of a list file; paths are relative to its folder."""
    pairs = []
    for number, line in enumerate(listing.read_text().splitlines(), start=1):
        if not line.strip():
            continue
        words = line.split()
        if len(words) != 2:
            raise InputError(f"{listing} line {number} is {line!r}; write an image path and a mask path")
        pair = Pair(listing.parent / words[0], listing.parent / words[1])
        for kind, path in (("image", pair.image), ("mask", pair.mask)):
            if not path.is_file():
                raise InputError(f"{listing} line {number}: no {kind} at {path}; complete the set or remove the line")
        pairs.append(pair)
    if not pairs:
        raise InputError(f"{listing} names no pairs; write an image path and a mask path a line")
    return pairs


def _matched(images: Path, masks: Path) -> list[Pair]:
    """Pairs of equal relative path without ending; a mask may end in `_mask`."""
    found = {_stem(path, images): path for path in sorted(images.rglob("*")) if is_image_name(path.name)}
    drawn = {_stem(path, masks).removesuffix("_mask"): path for path in masks.rglob("*") if is_image_name(path.name)}
    if not found:
        raise InputError(f"no images in {images}; put image files there")
    for stem, path in found.items():
        if stem not in drawn:
            raise InputError(f"image {path} has no mask: looked for {masks / stem} with an image ending; add or remove")
    for stem, path in drawn.items():
        if stem not in found:
            raise InputError(f"mask {path} has no image in {images}; add the image or remove the mask")
    return [Pair(path, drawn[stem]) for stem, path in found.items()]


def _stem(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()
