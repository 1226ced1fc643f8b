"""What the values of a mask mean, and that every mask keeps to it: checked once for a set, before anything is trained.

Shape letters: K classes, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from patchscale.data import cache
from patchscale.data.decode import worker_threads
from patchscale.data.masks.pairs import Pair
from patchscale.errors import InputError

IGNORED = 255
"""What `Labels.read` gives for pixels that no loss and no score counts."""
MOST_CLASSES = 255


@dataclass(frozen=True)
class Labels:
    """From the values in mask files to classes.

    Attributes:
        classes: names, in order.
        ignore_label: value of pixels that are not counted.
        zero_ignored: 0 is not counted either, and value v is class v - 1 (ADE20K's rule).
    """

    classes: tuple[str, ...]
    ignore_label: int
    zero_ignored: bool = False

    def table(self) -> np.ndarray:
        """int16 [256]: the class of every value, `IGNORED`, or -1 for a value that means nothing."""
        table = np.full(256, -1, dtype=np.int16)
        first = int(self.zero_ignored)
        table[first : first + len(self.classes)] = np.arange(len(self.classes))
        table[:first] = IGNORED
        if 0 <= self.ignore_label < 256:
            table[self.ignore_label] = IGNORED
        return table

    def read(self, path: Path) -> np.ndarray:
        """A mask file as uint8 [H, W]: classes, or `IGNORED`.

        Raises:
            InputError: it cannot be read, or holds a value that is no class.
        """
        values = read_values(path)
        mapped = self.table()[values]
        if (mapped < 0).any():
            raise InputError(self.complaint(path, int(values[mapped < 0][0])))
        return mapped.astype(np.uint8)

    def complaint(self, path: Path, value: int) -> str:
        """The line for a value that means nothing."""
        first = int(self.zero_ignored)
        zero = ", 0 (not counted)" if self.zero_ignored else ""
        last = first + len(self.classes) - 1
        return (
            f"mask {path} holds the value {value}; this set has classes {first} to {last}{zero} and "
            f"{self.ignore_label} (not counted); correct the mask, classes.txt or data.ignore_label"
        )


def read_values(path: Path) -> np.ndarray:
    """The values of a mask file, uint8 [H, W]; a palette's indices count, not its colours.

    Raises:
        InputError: not a readable one-channel image, or values beyond 255.
    """
    try:
        with Image.open(path) as image:
            image.load()
            mode, values = image.mode, np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read the mask {path}: {error}; replace it") from error
    if values.ndim != 2 or mode not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"):
        raise InputError(f"mask {path} has mode {mode}, not one value a pixel; store classes as a grey or palette PNG")
    if values.dtype != np.uint8 and (values.min() < 0 or values.max() > 255):
        wrong = int(values.max()) if values.max() > 255 else int(values.min())
        raise InputError(f"mask {path} holds the value {wrong}; classes are numbers from 0 to 255")
    return values.astype(np.uint8)


@dataclass(frozen=True)
class Scan:
    """What was found in the masks of a split.

    Attributes:
        sizes: (H, W) of every pair.
        first: every value that occurs, with the position of the first mask that holds it.
    """

    sizes: tuple[tuple[int, int], ...]
    first: dict[int, int]

    def check(self, labels: Labels, pairs: Sequence[Pair]) -> None:
        """Raises InputError for a value that means nothing, naming a mask that holds it."""
        table = labels.table()
        for value, position in sorted(self.first.items()):
            if table[value] < 0:
                raise InputError(labels.complaint(pairs[position].mask, value))


def scan(pairs: Sequence[Pair]) -> Scan:
    """Reads every mask and every image's size; the result is kept, so a set is read once.

    Raises:
        InputError: a mask that cannot be read, or whose size is not its image's.
    """
    files = [path for pair in pairs for path in (pair.image, pair.mask)]

    def make(folder: Path) -> dict[str, Any]:
        with ThreadPoolExecutor(worker_threads()) as pool:
            found = list(pool.map(_look, pairs))
        first: dict[int, int] = {}
        for position, (_, values) in enumerate(found):
            for value in values:
                first.setdefault(value, position)
        return {"sizes": [size for size, _ in found], "first": sorted(first.items())}

    _, facts = cache.entry(cache.key_of(files, kind="masks"), make)
    return Scan(tuple((h, w) for h, w in facts["sizes"]), dict(facts["first"]))


def _look(pair: Pair) -> tuple[tuple[int, int], list[int]]:
    """Size (H, W) and the values in the mask."""
    values = read_values(pair.mask)
    try:
        with Image.open(pair.image) as image:
            width, height = image.size
    except (OSError, Image.DecompressionBombError) as error:
        raise InputError(f"cannot read the image {pair.image}: {error}; replace it") from error
    if values.shape != (height, width):
        raise InputError(
            f"mask {pair.mask} is {values.shape[0]}x{values.shape[1]}, its image {pair.image} is {height}x{width} "
            "(height x width); they must be equal"
        )
    return (height, width), np.flatnonzero(np.bincount(values.ravel(), minlength=256)).tolist()


def listed_classes(listing: Path, zero_ignored: bool) -> tuple[str, ...]:
    """Names from `classes.txt`, one a line in the order of their values.

    Raises:
        InputError: no or too many classes.
    """
    names = tuple(line.strip() for line in listing.read_text().splitlines() if line.strip())
    return _counted(names, str(listing), zero_ignored)


def shown_classes(shown: Scan, folder: Path, ignore_label: int, zero_ignored: bool) -> tuple[str, ...]:
    """A name for every value up to the largest that masks show.

    Raises:
        InputError: no or too many classes.
    """
    first = int(zero_ignored)
    values = [value for value in shown.first if value != ignore_label and value >= first]
    names = tuple(f"class {value}" for value in range(first, max(values, default=first - 1) + 1))
    return _counted(names, f"the training masks of {folder}", zero_ignored)


def _counted(names: tuple[str, ...], where: str, zero_ignored: bool) -> tuple[str, ...]:
    most = MOST_CLASSES - int(zero_ignored)
    if not 0 < len(names) <= most:
        raise InputError(f"{where} name {len(names)} classes; 1 to {most} are possible")
    return names
