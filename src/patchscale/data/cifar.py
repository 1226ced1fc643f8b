"""CIFAR-10 and CIFAR-100 from their binary archives, or from the Python ones without trusting their pickles.

The binary version is read first. The Python version is unpickled by a reader that builds numpy arrays, containers and
byte strings and refuses every other name in the file, so that nothing in it can run.
"""

from __future__ import annotations

import io
import pickle
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from patchscale.data import cache
from patchscale.data.decode import FILTERS
from patchscale.data.encoded import limit_positions
from patchscale.data.expectation import Expectation
from patchscale.data.image_set import About, Colour, ImageSet, MemoryImages
from patchscale.data.spec import DataSpec, Split
from patchscale.errors import InputError

CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR100 = tuple(_CIFAR100.split())
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
}


@dataclass(frozen=True)
class _Variant:
    name: str
    classes: int
    binary_folder: str
    python_folder: str
    binary: dict[str, tuple[str, ...]]
    python: dict[str, tuple[str, ...]]
    mean: Colour
    std: Colour


_VARIANTS = (
    _Variant(
        "cifar-10", 10, "cifar-10-batches-bin", "cifar-10-batches-py",
        {"train": tuple(f"data_batch_{n}.bin" for n in range(1, 6)), "test": ("test_batch.bin",)},
        {"train": tuple(f"data_batch_{n}" for n in range(1, 6)), "test": ("test_batch",)},
        (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616),
    ),
    _Variant(
        "cifar-100", 100, "cifar-100-binary", "cifar-100-python",
        {"train": ("train.bin",), "test": ("test.bin",)}, {"train": ("train",), "test": ("test",)},
        (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class _Found:
    variant: _Variant
    files: list[Path]
    archive: Path | None
    binary: bool


def find_cifar(folder: Path, split: Split, name: str = "") -> _Found | None:
    """CIFAR's files in `folder`, unpacked or as the published .tar.gz; the binary version first."""
    for binary in (True, False):
        for variant in _VARIANTS:
            if name in (other.name for other in _VARIANTS) and variant.name != name:
                continue
            inner = variant.binary_folder if binary else variant.python_folder
            wanted = (variant.binary if binary else variant.python)[split]
            for base in (folder, folder / inner):
                files = [base / file for file in wanted]
                if all(file.is_file() for file in files):
                    return _Found(variant, files, None, binary)
            archive = folder / f"{variant.name}-{'binary' if binary else 'python'}.tar.gz"
            if archive.is_file():
                return _Found(variant, [Path(inner) / file for file in wanted], archive, binary)
    return None


def load_cifar(
    folder: Path, spec: DataSpec, split: Split, input_size: tuple[int, int], expected: Expectation
) -> ImageSet:
    """Reads a split; another size than 32x32 is resized once (antialiased) and kept in the cache."""
    found = find_cifar(folder, split, expected.name)
    if found is None:
        raise InputError(f"{folder} holds no CIFAR archive; expected cifar-10-binary.tar.gz or -python.tar.gz")
    height, width = input_size

    def make(entry: Path) -> dict:
        images, labels = _read(found)
        if input_size != (32, 32):
            images = np.stack([_resized(image, width, height, spec.resample) for image in images])
        np.save(entry / "pixels.npy", images)
        return {"labels": labels.tolist()}

    files = [found.archive] if found.archive else found.files
    key = cache.key_of(files, kind="cifar", split=split, size=input_size, resample=spec.resample)
    entry, facts = cache.entry(key, make)
    labels = np.asarray(facts["labels"], dtype=np.int64)
    if expected.counts:
        expected.check(split, len(labels), found.variant.classes, folder)
    positions = limit_positions(labels, spec.limit(split), spec.data_seed)
    variant = found.variant
    about = About(
        name=variant.name, split=split, labels=torch.from_numpy(labels[positions]), mean=variant.mean, std=variant.std,
        classes=CIFAR10 if variant.classes == 10 else CIFAR100,
        source=str(folder),
        resample_note="original pixels"
        if input_size == (32, 32)
        else f"32x32 originals resized to {height}x{width} ({spec.resample}, antialiased)",
    )  # fmt: skip
    return MemoryImages(about, np.load(entry / "pixels.npy", mmap_mode="r"), positions)


def _resized(image: np.ndarray, width: int, height: int, resample: str) -> np.ndarray:
    picture = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
    return np.asarray(picture.resize((width, height), FILTERS[resample])).transpose(2, 0, 1)


def _read(found: _Found) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [n, 3, 32, 32] and labels int64 [n]."""
    if found.archive:
        try:
            with tarfile.open(found.archive) as tar:
                contents = [tar.extractfile(str(file)).read() for file in found.files]  # pyright: ignore[reportOptionalMemberAccess]
        except (tarfile.TarError, KeyError, EOFError, OSError) as error:
            raise InputError(f"cannot read {found.archive}: {error}; is the copy complete?") from error
    else:
        contents = [file.read_bytes() for file in found.files]
    label_bytes = 1 if found.variant.classes == 10 else 2
    images, labels = [], []
    for file, content in zip(found.files, contents, strict=True):
        if found.binary:
            if len(content) % (label_bytes + 3072):
                raise InputError(f"{file}: {len(content)} bytes are no whole number of records; is the copy complete?")
            records = np.frombuffer(content, dtype=np.uint8).reshape(-1, label_bytes + 3072)
            labels.append(records[:, label_bytes - 1])
            images.append(records[:, label_bytes:])
        else:
            batch = read_pickled_batch(content, str(file))
            labels.append(np.asarray(batch.get(b"labels", batch.get(b"fine_labels")), dtype=np.int64))
            images.append(batch[b"data"])
    return np.concatenate(images).reshape(-1, 3, 32, 32), np.concatenate(labels).astype(np.int64)


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which image batches do not need")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def read_pickled_batch(content: bytes, name: str) -> dict[bytes, Any]:
    """Unpickles one batch of the Python version, building arrays and plain containers only.

    Raises:
        InputError: the pickle names anything else, or is damaged.
    """
    try:
        batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"refusing to read {name}: {error}; use the binary version (.bin) of the archive") from error
    if not isinstance(batch, dict) or not isinstance(batch.get(b"data"), np.ndarray):
        raise InputError(f"{name} is not a CIFAR batch; use the binary version (.bin) of the archive")
    return batch
