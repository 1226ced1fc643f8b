"""Any directory of labelled images: recognises the layout and reads it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy as np

from patchscale.data import cifar, idx, parquet
from patchscale.data._random import draw
from patchscale.data.encoded import Encoded, read_encoded
from patchscale.data.expectation import Expectation
from patchscale.data.image_set import ImageSet
from patchscale.data.pages import is_page_set, load_pages
from patchscale.data.sources import FolderSource, Source, TarSource, class_folders
from patchscale.data.spec import DataSpec, Split
from patchscale.errors import InputError

SPLIT_FOLDERS: dict[Split, tuple[str, ...]] = {"train": ("train",), "test": ("val", "validation", "valid", "test")}
_SHARD = re.compile(r"\.(tar|tar\.gz|tgz)$")


def load_directory(
    folder: Path, spec: DataSpec, split: Split, input_size: tuple[int, int], expected: Expectation | None = None
) -> ImageSet:
    """Reads a split of the set in `folder`: idx files, CIFAR archives, tar shards, parquet files, class folders, or
    papers with a table of pages.

    Raises:
        InputError: the folder holds none of these, or not what `expected` says.
    """
    expected = expected or Expectation(folder.resolve().name)
    if idx.find_idx(folder, split):
        return idx.load_idx(folder, spec, split, input_size, expected)
    if is_page_set(folder):
        return load_pages(folder, spec, split, input_size)
    if cifar.find_cifar(folder, split):
        return cifar.load_cifar(folder, spec, split, input_size, expected)
    found = _find(folder, spec, split, expected)
    return read_encoded(found, spec, input_size)


def _find(folder: Path, spec: DataSpec, split: Split, expected: Expectation) -> Encoded:
    classes, words = _class_table(folder)

    def check(images: int, classes: int) -> None:
        expected.check(split, images, classes, folder)

    facts = {"check": check, "mean": expected.mean, "std": expected.std, "class_names": words, "source": str(folder)}
    shards = {side: _matching(folder, side, _SHARD) for side in SPLIT_FOLDERS}

    if shards["train"]:
        _need(shards[split], folder, split, "tar shards")

        def open_shards() -> Source:
            order = classes or (None if split == "train" else TarSource(shards["train"]).classes)
            return TarSource(shards[split], order)

        listed = [*shards[split], *([] if classes or split == "train" else shards["train"])]
        return Encoded(expected.name, split, listed, open_shards, **facts, order=classes)
    tables = parquet.find_parquet(folder, split)
    if tables:
        source = parquet.ParquetSource(tables)
        return Encoded(expected.name, split, tables, lambda: source, **facts, count=len(source), order=source.classes)
    source = _class_folders(folder, spec, split, classes)
    return Encoded(expected.name, split, source.names, lambda: source, **facts, count=len(source), order=source.classes)


def _class_folders(folder: Path, spec: DataSpec, split: Split, classes: tuple[str, ...] | None) -> FolderSource:
    sides = {
        side: [folder / name for name in names if (folder / name).is_dir()] for side, names in SPLIT_FOLDERS.items()
    }
    if sides["train"]:
        _need(sides[split], folder, split, f"a folder {' or '.join(SPLIT_FOLDERS[split])}/")
        if classes is None and split == "test":
            classes = class_folders(sides["train"][0])
        return FolderSource.scan(sides[split][0], classes)
    try:
        everything = FolderSource.scan(folder, classes)
    except InputError as error:
        raise InputError(
            f"{folder} holds no image set that is known here: expected train/ and val/ with class folders, tar shards "
            "train*.tar(.gz) and val*.tar(.gz), parquet files, idx files, or CIFAR's archives"
        ) from error
    if spec.test_fraction is None:
        raise InputError(
            f"{folder} holds class folders but no train/ and val/; give test_fraction (such as 0.2) to hold out a part"
        )
    keep = np.flatnonzero(_held_out(everything, folder, spec.test_fraction) == (split == "test"))
    return FolderSource([everything.names[index] for index in keep], everything.labels[keep], everything.classes)


def _held_out(source: FolderSource, folder: Path, share: float) -> np.ndarray:
    """True for the test images: a fixed share of each class, by a hash of the file's path inside the set."""
    paths = [Path(name).relative_to(folder).as_posix() for name in source.names]
    digests = [hashlib.sha256(path.encode()).digest()[:8] for path in paths]
    keys = np.asarray([int.from_bytes(digest, "big") for digest in digests], dtype=np.uint64)
    bits = draw(keys)
    order = np.lexsort((bits, source.labels))
    starts = np.searchsorted(source.labels[order], source.labels[order], side="left")
    totals = np.bincount(source.labels)[source.labels[order]]
    test = np.empty(len(source), dtype=bool)
    test[order] = np.arange(len(source)) - starts < np.maximum(1, np.rint(totals * share))
    return test


def _class_table(folder: Path) -> tuple[tuple[str, ...] | None, dict[str, str] | None]:
    """Label order and shown names from `classes.tsv` (folder name, tab, words), if it is there."""
    table = folder / "classes.tsv"
    if not table.is_file():
        return None, None
    rows = [line.split("\t", 1) for line in table.read_text().splitlines() if line.strip()]
    return tuple(row[0] for row in rows), {row[0]: row[-1].strip() for row in rows}


def _matching(folder: Path, split: Split, pattern: re.Pattern[str]) -> list[Path]:
    names = {"train": ("train",), "test": ("val", "test")}[split]
    files = [file for file in sorted(folder.iterdir()) if file.is_file() and pattern.search(file.name)]
    for name in names:
        chosen = [file for file in files if re.search(rf"(^|[^a-z]){name}", file.name.lower())]
        if chosen:
            return chosen
    return []


def _need(found: list[Path], folder: Path, split: Split, what: str) -> None:
    if not found:
        raise InputError(f"{folder} has no {split} images: found no {what}")
