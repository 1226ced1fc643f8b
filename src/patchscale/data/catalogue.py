"""The sets known by name: what they show, how large they are, where they may lie."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

from patchscale.data import digits
from patchscale.errors import InputError


@dataclass(frozen=True)
class KnownSet:
    """A set known by name.

    Attributes:
        name: the name to use in `DataSpec` and on the command line.
        about: one line: what it shows and where it comes from.
        classes: number of classes.
        train: training images; generated sets: the default.
        test: test images.
        size: usual size of an original, text.
        licence: short licence text.
        kind: "generated" or "files".
        folders: names searched under `PATCHSCALE_DATA`, the working directory's `data/`, and the download folder.
        places: absolute folders where systems install the set.
        how: how to get the files, for the error that says they are missing.
    """

    name: str
    about: str
    classes: int
    train: int
    test: int
    size: str
    licence: str
    kind: Literal["generated", "files"] = "files"
    folders: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    how: str = ""


_UCI, _RESEARCH = "CC BY 4.0 (UCI optical digits)", "ImageNet terms: non-commercial research and education"
SETS = (
    KnownSet(
        name="digits_in_clutter", about="a handwritten digit at a random place among pieces of others; embedded",
        classes=10, train=digits.TRAIN_SIZE, test=digits.TEST_SIZE, size="any", licence=_UCI, kind="generated",
    ),
    KnownSet(
        name="digits", about="scikit-learn's handwritten digits, centred; embedded",
        classes=10, train=1437, test=360, size="8x8", licence=_UCI, kind="generated",
    ),
    KnownSet(
        name="scenes", about="textured shapes on textured ground; class: the large shape and its fine texture",
        classes=24, train=8192, test=2048, size="any", licence="generated", kind="generated",
    ),
    KnownSet(
        name="fashion-mnist", about="grey pictures of clothes",
        classes=10, train=60_000, test=10_000, size="28x28", licence="MIT",
        folders=("fashion-mnist", "FashionMNIST"), places=("/usr/share/datasets/fashion-mnist",),
        how="on Debian: apt install dataset-fashion-mnist",
    ),
    KnownSet(
        name="mnist", about="handwritten digits, centred",
        classes=10, train=60_000, test=10_000, size="28x28", licence="CC BY-SA 3.0", folders=("mnist", "MNIST"),
        how="put the four idx files there",
    ),
    KnownSet(
        name="cifar-10", about="small natural photographs",
        classes=10, train=50_000, test=10_000, size="32x32", licence="none stated",
        folders=("cifar-10", "cifar-10-batches-bin", "cifar-10-batches-py", "cifar10"),
        how="put cifar-10-binary.tar.gz there",
    ),
    KnownSet(
        name="cifar-100", about="small natural photographs",
        classes=100, train=50_000, test=10_000, size="32x32", licence="none stated",
        folders=("cifar-100", "cifar-100-binary", "cifar-100-python", "cifar100"),
        how="put cifar-100-binary.tar.gz there",
    ),
    KnownSet(
        name="tiny-imagenet-100", about="every second class of Tiny ImageNet, natural photographs",
        classes=100, train=35_000, test=5_000, size="64x64", licence=_RESEARCH, folders=("tiny-imagenet-100",),
        how="put train-*.tar.gz, val.tar.gz and classes.tsv there, or train/ and val/ unpacked",
    ),
    KnownSet(
        name="imagenet-1k", about="natural photographs, ILSVRC 2012",
        classes=1000, train=1_281_167, test=50_000, size="about 500x375", licence=_RESEARCH,
        folders=("imagenet-1k", "imagenet", "ILSVRC2012", "ILSVRC/Data/CLS-LOC"),
        how="put train/ and val/ with class folders, tar shards, or the hub's parquet files there",
    ),
    KnownSet(
        name="inaturalist-18", about="plants and animals, long-tailed",
        classes=8142, train=437_513, test=24_426, size="up to 800x800", licence="per image, non-commercial research",
        folders=("inaturalist-18", "inaturalist2018", "inat2018"),
        how="put train_val2018/, train2018.json and val2018.json there",
    ),
    KnownSet(
        name="inaturalist-19", about="plants and animals",
        classes=1010, train=265_213, test=3_030, size="up to 800x800", licence="per image, non-commercial research",
        folders=("inaturalist-19", "inaturalist2019", "inat2019"),
        how="put train_val2019/, train2019.json and val2019.json there",
    ),
)  # fmt: skip
KNOWN = {known.name: known for known in SETS}


def known_sets() -> list[KnownSet]:
    """All sets known by name, generated ones first."""
    return list(SETS)


def describe(name: str) -> KnownSet:
    """What is known of a set.

    Raises:
        InputError: no such set; the message names close ones.
    """
    known = KNOWN.get(name) or {_plain(key): value for key, value in KNOWN.items()}.get(_plain(name))
    if known is None:
        close = difflib.get_close_matches(name, KNOWN, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known sets: {', '.join(KNOWN)};"
        raise InputError(f"unknown data set {name!r}: {hint} Or give a directory (./{name})")
    return known


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
