"""From a source of encoded images to an `ImageSet`: held in memory if it fits, else decoded as it is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from patchscale.data import cache
from patchscale.data._random import draw
from patchscale.data.decode import centre_view, open_image, random_resized_crop, worker_threads
from patchscale.data.image_set import IMAGENET_MEAN, IMAGENET_STD, About, Colour, Crop, ImageSet, Indices, MemoryImages
from patchscale.data.progress import counted
from patchscale.data.sources import Source
from patchscale.data.spec import DataSpec, Split
from patchscale.errors import InputError


@dataclass(frozen=True)
class Encoded:
    """A split of encoded images that has been found but not yet read.

    Attributes:
        name: the set's name.
        split: "train" or "test".
        files: what the cache key covers; a change of any of them decodes anew.
        open: lists the images; may read whole shards.
        count: number of images if it is known without opening: spares large sets the fingerprint of every file.
        mean: per-channel mean.
        std: per-channel standard deviation.
        order: the label order where something besides `files` decides it.
        check: raises `InputError` unless the numbers of images and classes are the expected ones.
        facts: what else decides which images there are.
        class_names: from a class folder's name to the name shown (words for wnids); missing ones stay.
    """

    name: str
    split: Split
    files: Sequence[Path | str]
    open: Callable[[], Source]
    mean: Colour = IMAGENET_MEAN
    std: Colour = IMAGENET_STD
    class_names: dict[str, str] | None = None
    source: str = ""
    count: int | None = None
    order: tuple[str, ...] | None = None
    check: Callable[[int, int], None] = lambda images, classes: None
    facts: dict[str, Any] = field(default_factory=dict)


def read_encoded(found: Encoded, spec: DataSpec, input_size: tuple[int, int]) -> ImageSet:
    """The images of `found` at `input_size` as `spec` wants them; see `DataSpec` for what decides."""
    opened = _Opened(found)
    per_image = 3 * input_size[0] * input_size[1]
    room = spec.memory_gib * 2**30
    if found.count is not None and found.count * per_image > room:
        return _from_disk(found, opened.source, spec, input_size)
    facts = {"size": input_size, "resample": spec.resample, "crop": spec.test_crop, "bad": spec.bad_images}
    key = _key(found, spec, kind="pixels", **facts)
    held = (cache.cache_folder() / "pixels" / key / "about.json").is_file()
    if not held:
        found.check(len(opened.source), len(opened.source.classes))
    if held or len(opened.source) * per_image <= room:
        return _in_memory(found, opened, spec, input_size, key)
    if not opened.source.random_access:
        raise InputError(
            f"{found.name}: {len(opened.source)} images at {input_size[0]}x{input_size[1]} exceed memory_gib "
            f"{spec.memory_gib:g}, and compressed shards cannot be read at random; unpack them, store them as plain "
            ".tar, or raise memory_gib"
        )
    return _from_disk(found, opened.source, spec, input_size)


def limit_positions(labels: np.ndarray, limit: int | None, seed: int) -> np.ndarray:
    """A class-balanced choice of `limit` positions, ascending; a larger limit contains every smaller one."""
    if limit is None or limit >= len(labels):
        return np.arange(len(labels))
    order = np.lexsort((draw(seed, np.arange(len(labels))), labels))
    rank = np.empty(len(labels), dtype=np.int64)
    starts = np.searchsorted(labels[order], labels[order], side="left")
    rank[order] = np.arange(len(labels)) - starts
    return np.sort(np.lexsort((draw(seed, labels), rank))[:limit])


def _key(found: Encoded, spec: DataSpec, **facts: Any) -> str:
    """The cache key of what `facts` make of a split; covers which images it has, in which order."""
    return cache.key_of(
        found.files, split=found.split, order=found.order, fraction=spec.test_fraction, **found.facts, **facts
    )


class _Opened:
    """Opens the source at most once, and only if it is needed."""

    def __init__(self, found: Encoded):
        self.found = found

    @cached_property
    def source(self) -> Source:
        return self.found.open()


def _about(found: Encoded, classes: Sequence[str], labels: np.ndarray, skipped: Sequence[str], note: str) -> About:
    words = found.class_names or {}
    if skipped:
        cache.log.warning(
            "%s, %s: left out %d unreadable images; %s", found.name, found.split, len(skipped), skipped[0]
        )
    return About(
        name=found.name, split=found.split, classes=tuple(words.get(name, name) for name in classes),
        labels=torch.from_numpy(np.ascontiguousarray(labels)), mean=found.mean, std=found.std,
        resample_note=note, skipped=tuple(skipped), source=found.source,
    )  # fmt: skip


def _note(spec: DataSpec, size: tuple[int, int], train_from_disk: bool) -> str:
    view = f"resized to cover {size[0]}x{size[1]} ({spec.resample}, antialiased) and cut to the centre"
    if spec.test_crop < 1:
        view += f", keeping {spec.test_crop:.1%}"
    return f"training: random-resized crops; test: {view}" if train_from_disk else f"{view}, once"


def _in_memory(found: Encoded, opened: _Opened, spec: DataSpec, size: tuple[int, int], key: str) -> ImageSet:
    def make(folder: Path) -> dict:
        source = opened.source
        view = partial(centre_view, size=size, resample=spec.resample, crop=spec.test_crop)
        kept, bad = cache.decode_to_memory_map(source, folder, size, view, spec.bad_images)
        return {"classes": list(source.classes), "labels": source.labels[kept].tolist(), "skipped": bad}

    folder, facts = cache.entry(key, make)
    labels = np.asarray(facts["labels"], dtype=np.int64)
    found.check(len(labels) + len(facts["skipped"]), len(facts["classes"]))
    positions = limit_positions(labels, spec.limit(found.split), spec.data_seed)
    about = _about(found, facts["classes"], labels[positions], facts["skipped"], _note(spec, size, False))
    return MemoryImages(about, np.load(folder / "pixels.npy", mmap_mode="r"), positions)


def _from_disk(found: Encoded, source: Source, spec: DataSpec, size: tuple[int, int]) -> ImageSet:
    found.check(len(source), len(source.classes))
    good, skipped = np.arange(len(source)), []
    if spec.bad_images == "skip":
        _, facts = cache.entry(_key(found, spec, kind="readable"), lambda _: _find_unreadable(source))
        good, skipped = np.setdiff1d(good, np.asarray(facts["positions"], dtype=np.int64)), facts["reasons"]
    positions = good[limit_positions(source.labels[good], spec.limit(found.split), spec.data_seed)]
    about = _about(found, source.classes, source.labels[positions], skipped, _note(spec, size, found.split == "train"))
    return DiskImages(about, source, positions, size, spec)


def _find_unreadable(source: Source) -> dict:
    """Decodes everything once: the skip policy must know what it leaves out before training begins."""

    def check(index: int) -> str | None:
        try:
            open_image(source.content(index), source.names[index])
        except InputError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(worker_threads()) as pool:
        reasons = list(counted(pool.map(check, range(len(source))), len(source), "checking images"))
    bad = [index for index, reason in enumerate(reasons) if reason]
    return {"positions": bad, "reasons": [reasons[index] for index in bad]}


class DiskImages(ImageSet):
    """Images decoded by worker threads as they are read.

    Args:
        about: description.
        source: encoded images with random access.
        positions: int64 [n], which images of the source belong to the set.
        input_size: (H, W).
        spec: filter and test view.
    """

    in_memory = False

    def __init__(
        self, about: About, source: Source, positions: np.ndarray, input_size: tuple[int, int], spec: DataSpec
    ):
        super().__init__(about, input_size)
        self.encoded, self.positions, self.spec = source, positions, spec
        self._pool = ThreadPoolExecutor(worker_threads(), thread_name_prefix="decode")

    def read(self, indices: Indices, crop: Crop | None = None) -> Tensor:
        """See `ImageSet.read`; an unreadable image raises `InputError` naming it."""

        def one(place: int, index: int) -> np.ndarray:
            position = int(self.positions[index])
            skippable = self.spec.bad_images == "fail"
            image = open_image(self.encoded.content(position), self.encoded.names[position], skippable=skippable)
            if crop is None:
                return centre_view(image, self.input_size, self.spec.resample, self.spec.test_crop)
            keys = crop.seed, index, crop.first_row + place
            return random_resized_crop(image, self.input_size, self.spec.resample, crop.scale, *keys)

        chosen = np.asarray(indices, dtype=np.int64)
        out = np.empty((len(chosen), 3, *self.input_size), dtype=np.uint8)
        for place, pixels in enumerate(self._pool.map(one, range(len(chosen)), chosen.tolist())):
            out[place] = pixels
        return torch.from_numpy(out)
