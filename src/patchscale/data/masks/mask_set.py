"""`load_masks`: from a name or a directory to the images and masks of a split."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from torch import Tensor

from patchscale.data.catalogue import KnownSet
from patchscale.data.decode import open_image, worker_threads
from patchscale.data.image_set import IMAGENET_MEAN, IMAGENET_STD, Colour
from patchscale.data.masks.labels import Labels, listed_classes, scan, shown_classes
from patchscale.data.masks.pairs import Pair, find_pairs, limited
from patchscale.data.masks.views import Decoded, check_shape, covering, resized
from patchscale.data.progress import counted
from patchscale.data.registry import find_folder
from patchscale.data.scenes import SEMANTIC_CLASSES, scene
from patchscale.data.spec import SPLITS, DataSpec, Split
from patchscale.errors import InputError

SCENES = {"train": 2048, "test": 256}

CAMVID_CLASSES = (
    "sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car", "pedestrian", "bicyclist",
)  # fmt: skip


@dataclass(frozen=True)
class KnownMasks:
    """Files of images and masks that are known by name.

    Attributes:
        known: where its files may lie, and how many there are.
        splits: what its splits are called.
        ignore_label: value that is not counted.
        zero_ignored: 0 is not counted, and value v is class v - 1.
        classes: names; None: numbered, or from the set's own table.
    """

    known: KnownSet
    splits: dict[Split, tuple[str, ...]]
    ignore_label: int = 255
    zero_ignored: bool = False
    classes: tuple[str, ...] | None = None


_FILES = {
    "camvid": KnownMasks(
        KnownSet(
            name="camvid", about="street scenes from a car; 11 classes", classes=11, train=367, test=233,
            size="480x360", licence="CC BY-NC 4.0", folders=("camvid", "CamVid"),
            how="put train.txt, test.txt and the folders they name there, as in SegNet's tutorial",
        ),
        {"train": ("train",), "test": ("test",)}, ignore_label=11, classes=CAMVID_CLASSES,
    ),
    "ade20k": KnownMasks(
        KnownSet(
            name="ade20k", about="everyday scenes; 150 classes", classes=150, train=20_210, test=2_000,
            size="about 683x512", licence="BSD 3-clause; images for non-commercial research and education",
            folders=("ADEChallengeData2016", "ade20k"), how="unpack ADEChallengeData2016.zip there",
        ),
        {"train": ("training",), "test": ("validation",)}, zero_ignored=True,
    ),
}  # fmt: skip

MASK_SETS = {name: entry.known for name, entry in _FILES.items()} | {
    "scenes": KnownSet(
        name="scenes", about="textured shapes on textured ground; class: the shape a pixel belongs to",
        classes=len(SEMANTIC_CLASSES), train=SCENES["train"], test=SCENES["test"], size="any", licence="generated",
        kind="generated",
    )
}  # fmt: skip
"""Every set of masks known by name."""


class FilePairs(Sequence[Decoded]):
    """Pairs of files, decoded when they are asked for."""

    def __init__(self, pairs: Sequence[Pair], labels: Labels) -> None:
        self.pairs, self.labels = pairs, labels

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Decoded:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Image uint8 [h, w, 3] and mask uint8 [h, w]."""
        pair = self.pairs[index]
        return np.asarray(open_image(pair.image.read_bytes(), str(pair.image))), self.labels.read(pair.mask)


@dataclass(frozen=True)
class MaskSet:
    """Images with a class for every pixel, each at its own size.

    Attributes:
        name: the set's name.
        split: "train" or "test".
        classes: names in order.
        pairs: what is stored, decoded.
        in_memory: whether it is held decoded.
        canvas: (H, W) that views are made for.
        resample: filter for images.
        source: where the images were found.
        mean: per channel, on a scale of 0 to 1.
        std: the same for the standard deviation.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    pairs: Sequence[Decoded]
    in_memory: bool
    canvas: tuple[int, int]
    resample: str
    source: str
    mean: Colour = IMAGENET_MEAN
    std: Colour = IMAGENET_STD

    def __len__(self) -> int:
        return len(self.pairs)

    def read(self, indices: Tensor) -> list[Decoded]:
        """Pairs as they are stored, in the order of `indices` [B]."""
        return [self.pairs[index] for index in indices.tolist()]

    def test_view(self, index: int, *, original: bool) -> Decoded:
        """The whole image, shape kept, at the size that just covers the canvas; its mask at that or its own size."""
        pair = self.pairs[index]
        image, mask = resized(pair, covering(pair[1].shape, self.canvas), self.resample)  # pyright: ignore
        return image, pair[1] if original else mask


def load_masks(spec: DataSpec, split: Split, canvas: tuple[int, int]) -> MaskSet:
    """Images and masks of one split.

    Args:
        spec: `camvid`, `ade20k`, `scenes`, or a directory in one of the layouts of `find_pairs`; for a directory,
            `ignore_label` and `zero_label` say what is not counted, and `classes.txt` may name the classes.
        split: "train" or "test".
        canvas: (H, W) in pixels, what a model is trained on.

    Raises:
        InputError: nothing found, images and masks that do not match, or values that are no class; names the file.
    """
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}; use one of {', '.join(SPLITS)}")
    if spec.bad_images != "fail" or spec.test_crop != 1.0:
        raise InputError("bad_images and test_crop are for classification; leave them out, whole images are scored")
    if spec.name == "scenes":
        return _scenes(spec, split, canvas)
    known = _FILES.get(spec.name)
    if known is None and not Path(spec.name).expanduser().is_dir():
        raise InputError(f"no images with masks by the name {spec.name!r}; use {', '.join(MASK_SETS)} or a directory")
    if split == "train" and known is None:  # weights are also tested on other sets, with the sizes of their own
        spec.refuse_sizes()
    folder = Path(spec.name).expanduser() if known is None else find_folder(known.known, spec.root)
    names: dict[Split, tuple[str, ...] | None] = {"train": None, "test": None} if known is None else {**known.splits}
    pairs = find_pairs(folder, spec, split, names[split])
    found = scan(pairs)
    labels = _labels(folder, spec, known)
    found.check(labels, pairs)
    for pair, size in zip(pairs, found.sizes, strict=True):
        check_shape(size, canvas, str(pair.image))
    if known is not None and len(pairs) != (want := getattr(known.known, split)):
        raise InputError(f"{spec.name} has {want:,} images in its {split} split, {folder} holds {len(pairs):,}")
    size = sum(height * width for height, width in found.sizes) * 4 / 2**30
    stored: Sequence[Decoded] = FilePairs(limited(pairs, spec.limit(split), spec.data_seed), labels)
    if held := size <= spec.memory_gib:
        with ThreadPoolExecutor(worker_threads()) as pool:
            stored = list(pool.map(stored.__getitem__, range(len(stored))))
    name = spec.name if known else folder.resolve().name
    return MaskSet(name, split, labels.classes, stored, held, canvas, spec.resample, str(folder))


def _labels(folder: Path, spec: DataSpec, known: KnownMasks | None) -> Labels:
    """The meaning of values; a directory without `classes.txt` has the classes that its training masks show."""
    if known is None:
        zero_ignored, listing = spec.zero_label == "ignored", folder / "classes.txt"
        if listing.is_file():
            names = listed_classes(listing, zero_ignored)
        else:
            shown = scan(find_pairs(folder, spec, "train"))
            names = shown_classes(shown, folder, spec.ignore_label, zero_ignored)
        return Labels(names, spec.ignore_label, zero_ignored)
    classes = known.classes or tuple(f"class {number}" for number in range(1, known.known.classes + 1))
    labels = Labels(classes, known.ignore_label, known.zero_ignored)
    table = folder / "objectInfo150.txt"
    return replace(labels, classes=_ade20k_names(table)) if table.is_file() else labels


def _ade20k_names(table: Path) -> tuple[str, ...]:
    """First name of every class: the last column of the set's own table."""
    lines = [line for line in table.read_text().splitlines() if line[:1].isdigit()]
    return tuple(line.split("\t")[-1].split(",")[0].strip() for line in lines)


def _scenes(spec: DataSpec, split: Split, canvas: tuple[int, int]) -> MaskSet:
    """The first scenes of a split, with the shape of what each pixel shows."""
    count = spec.generated_size(split, SCENES[split])

    def draw_one(index: int) -> Decoded:
        drawn = scene(index, canvas, seed=spec.data_seed, split=split)
        return drawn.image, drawn.semantic

    with ThreadPoolExecutor(worker_threads()) as pool:
        pairs = list(counted(pool.map(draw_one, range(count)), count, "drawing scenes"))
    colours: dict[str, Colour] = {"mean": (0.48, 0.46, 0.46), "std": (0.21, 0.2, 0.215)}
    return MaskSet("scenes", split, SEMANTIC_CLASSES, pairs, True, canvas, spec.resample, "generated", **colours)
