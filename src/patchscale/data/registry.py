"""`load`: from a name or a directory to the images of a split."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from patchscale.data import cache, digits, hub, inaturalist
from patchscale.data.catalogue import KNOWN, KnownSet, describe
from patchscale.data.directory import load_directory
from patchscale.data.expectation import Expectation
from patchscale.data.image_set import ImageSet
from patchscale.data.scenes.classification import load_scenes
from patchscale.data.spec import SIZED, SPLITS, DataSpec, Split
from patchscale.errors import InputError

log = logging.getLogger("patchscale.data")


_GENERATED: dict[str, Callable[[DataSpec, Split, tuple[int, int]], ImageSet]] = {
    "digits": digits.plain_digits,
    "digits_in_clutter": digits.digits_in_clutter,
    "scenes": load_scenes,
}


def load(spec: DataSpec, split: Split = "train", input_size: tuple[int, int] = (32, 32)) -> ImageSet:
    """The images of one split at one size.

    Args:
        spec: which set; see `DataSpec`.
        split: "train" or "test".
        input_size: (H, W) in pixels.

    Returns:
        an `ImageSet`; sets that fit `spec.memory_gib` are decoded once and kept in the cache folder.

    Raises:
        InputError: unknown name, missing files (naming what was looked for and where), incomplete or damaged files, a
            size asked of a set that has its own.
    """
    if split not in SPLITS:
        raise InputError(f"unknown split {split!r}; use one of {', '.join(SPLITS)}")
    if min(input_size) < 1:
        raise InputError(f"input_size {input_size[0]}x{input_size[1]} is not an image size; both must be at least 1")
    if spec.name.startswith("hf:"):
        spec.refuse_sizes()
        return hub.load_hub(spec, split, input_size)
    if _is_path(spec.name):
        folder = Path(spec.name).expanduser()
        if not folder.is_dir():
            raise InputError(f"the data directory {spec.name} does not exist (looked for {folder.absolute()})")
        spec.refuse_sizes()
        return load_directory(folder, spec, split, input_size)
    known = describe(spec.name)
    if known.name not in SIZED:
        spec.refuse_sizes()
    if known.kind == "generated":
        return _GENERATED[known.name](spec, split, input_size)
    folder = find_folder(known, spec.root)
    expected = Expectation(known.name, {"train": known.train, "test": known.test}, known.classes)
    read = inaturalist.load_inaturalist if known.name.startswith("inaturalist") else load_directory
    return read(folder, spec, split, input_size, expected)


def find_folder(known: KnownSet, root: str | None) -> Path:
    """Where a set's files lie: `root`, then `PATCHSCALE_DATA`, then known places, then a download.

    Raises:
        InputError: nowhere; names every place that was searched.
    """
    if root is not None:
        folder = Path(root).expanduser()
        if not folder.is_dir():
            raise InputError(f"{known.name}: the directory {root} does not exist (looked for {folder.absolute()})")
        return folder
    local = local_folder(known)
    if local is not None:
        return local
    downloaded = _download(known)
    if downloaded is not None:
        return downloaded
    named, bases = os.environ.get("PATCHSCALE_DATA"), _bases()
    raise InputError(
        f"{known.name} was not found: looked for {', '.join(known.folders)} in "
        f"{', '.join(str(base) for base in bases)}{''.join(f', and for {place}' for place in known.places)}"
        f"{'' if named else ' (PATCHSCALE_DATA is not set)'}; give its directory, or {known.how}"
    )


def local_folder(known: KnownSet) -> Path | None:
    """The first folder on this machine where a set by this name lies; nothing is downloaded."""
    candidates = [base / folder for base in _bases() for folder in known.folders]
    candidates += [Path(place) for place in known.places]
    return next((candidate for candidate in candidates if candidate.is_dir()), None)


def _bases() -> list[Path]:
    named = os.environ.get("PATCHSCALE_DATA")
    return [*([Path(named)] if named else []), Path("data"), cache.cache_folder() / "downloads"]


def _download(known: KnownSet) -> Path | None:
    """Fetches a small set through torchvision, which checks the checksums; None if it has no such set."""
    makers = {"fashion-mnist": "FashionMNIST", "mnist": "MNIST", "cifar-10": "CIFAR10", "cifar-100": "CIFAR100"}
    if known.name not in makers:
        return None
    from torchvision import datasets

    target = cache.cache_folder() / "downloads" / known.folders[0]
    partial = target.with_name(f".{target.name}.partial")
    if os.environ.get("PATCHSCALE_OFFLINE"):
        raise InputError(
            f"{known.name} was not found on this machine, and PATCHSCALE_OFFLINE forbids the download; "
            f"give its directory, or {known.how}"
        )
    log.warning("%s is on none of the known places: downloading it to %s", known.name, target)
    try:
        partial.mkdir(parents=True, exist_ok=True)
        with _patience(30.0):
            getattr(datasets, makers[known.name])(str(partial), download=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"{known.name} was not found on this machine (looked in PATCHSCALE_DATA, ./data and the known places) and "
            f"cannot be downloaded: {error}; give its directory, or {known.how}"
        ) from error
    os.replace(partial, target)
    return target


@contextmanager
def _patience(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _is_path(name: str) -> bool:
    return "/" in name or os.sep in name or name.startswith((".", "~")) or (name not in KNOWN and Path(name).is_dir())
