"""Fashion-MNIST and MNIST from their idx files, plain or gzipped."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from patchscale.data import cache
from patchscale.data.decode import FILTERS
from patchscale.data.encoded import limit_positions
from patchscale.data.expectation import Expectation
from patchscale.data.image_set import About, ImageSet, MemoryImages, grey
from patchscale.data.spec import DataSpec, Split
from patchscale.errors import InputError

FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_PREFIX = {"train": "train", "test": "t10k"}
# The two sets share their file names; the first ten labels tell them apart.
_FASHION_STARTS = {"train": (9, 0, 0, 3, 0, 2, 7, 2, 5, 5), "test": (9, 2, 1, 1, 6, 1, 4, 6, 5, 7)}


def find_idx(folder: Path, split: Split) -> tuple[Path, Path] | None:
    """The image and the label file of a split in `folder` or its `raw/`, or None."""
    for base in (folder, folder / "raw", folder / "FashionMNIST" / "raw", folder / "MNIST" / "raw"):
        pair = []
        for kind in ("images-idx3", "labels-idx1"):
            stem = f"{_PREFIX[split]}-{kind}-ubyte"
            names = (f"{stem}.gz", stem, stem.replace("-idx", ".idx"))
            pair += [base / name for name in names if (base / name).is_file()][:1]
        if len(pair) == 2:
            return pair[0], pair[1]
    return None


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array of an idx file.

    Raises:
        InputError: not an idx file of bytes, or shorter than its header says.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"cannot read {path}: {error}; is the copy complete?") from error
    if len(content) < 4 or content[:3] != b"\0\0\x08":
        raise InputError(f"{path} is not an idx file of bytes; replace it by the published file")
    dims = content[3]
    shape = tuple(int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(dims))
    values = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * dims)
    if values.size != int(np.prod(shape)):
        raise InputError(f"{path} promises {shape} values and holds {values.size}; is the copy complete?")
    return values.reshape(shape)


def load_idx(
    folder: Path, spec: DataSpec, split: Split, input_size: tuple[int, int], expected: Expectation
) -> ImageSet:
    """Reads a split; originals of another size are resized once (antialiased) and kept in the cache."""
    pair = find_idx(folder, split)
    if pair is None:
        raise InputError(f"{folder} lacks {_PREFIX[split]}-images-idx3-ubyte(.gz) or its labels")
    labels = read_idx(pair[1]).astype(np.int64)
    if expected.counts:
        expected.check(split, len(labels), len(np.unique(labels)), folder)
    fashion = tuple(labels[:10]) == _FASHION_STARTS[split]
    height, width = input_size

    def make(entry: Path) -> dict:
        images = read_idx(pair[0])
        if len(images) != len(labels):
            raise InputError(f"{pair[0]} holds {len(images)} images, {pair[1]} holds {len(labels)} labels")
        if images.shape[1:] != input_size:
            resample = FILTERS[spec.resample]
            images = np.stack(
                [np.asarray(Image.fromarray(image).resize((width, height), resample)) for image in images]
            )
        np.save(entry / "pixels.npy", images[:, None])
        return {"original": list(read_idx(pair[0]).shape[1:])}

    key = cache.key_of(list(pair), kind="idx", size=input_size, resample=spec.resample)
    entry, facts = cache.entry(key, make)
    original = facts["original"]
    same = tuple(original) == input_size
    mean, std = (0.2860, 0.3530) if fashion else (0.1307, 0.3081)
    positions = limit_positions(labels, spec.limit(split), spec.data_seed)
    about = About(
        name="fashion-mnist" if fashion else expected.name,
        split=split, classes=FASHION if fashion else tuple(str(label) for label in range(int(labels.max()) + 1)),
        labels=torch.from_numpy(labels[positions]), mean=grey(mean), std=grey(std), source=str(pair[0].parent),
        resample_note="original pixels"
        if same
        else f"{original[0]}x{original[1]} originals resized to {height}x{width} ({spec.resample}, antialiased)",
    )  # fmt: skip
    return MemoryImages(about, np.load(entry / "pixels.npy", mmap_mode="r"), positions)
