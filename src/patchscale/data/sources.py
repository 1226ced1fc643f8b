"""Where encoded images lie: a folder of class folders, or tar shards of one.

A source lists its images (label, name), gives the bytes of one image where that is possible, and streams all of them in
parts that can be read side by side.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from patchscale.data.decode import is_image_name
from patchscale.errors import InputError


class Source(ABC):
    """Encoded images of one split.

    Attributes:
        classes: class names in label order.
        labels: int64 [n].
        names: what to call each image in an error.
        random_access: whether `content` works.
    """

    classes: tuple[str, ...]
    labels: np.ndarray
    names: list[str]
    random_access = True

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def content(self, index: int) -> bytes:
        """The encoded bytes of one image."""

    @abstractmethod
    def parts(self) -> int:
        """Number of parts that `stream` divides the set into."""

    @abstractmethod
    def stream(self, part: int) -> Iterator[tuple[int, bytes]]:
        """(index, bytes) of every image of one part."""


class FolderSource(Source):
    """Image files on disk.

    Args:
        paths: files.
        labels: their labels.
        classes: class names.
    """

    def __init__(self, paths: list[str], labels: np.ndarray, classes: tuple[str, ...]):
        self.names, self.labels, self.classes = paths, labels, classes

    @classmethod
    def scan(cls, root: Path, classes: tuple[str, ...] | None = None) -> FolderSource:
        """Reads the ImageFolder layout: `root/<class>/**/<image>`, classes in sorted order.

        Args:
            root: folder of class folders.
            classes: the classes the folders must be among; None: all folders found.

        Raises:
            InputError: no class folders, no images, or a folder that is none of `classes`.
        """
        found = class_folders(root)
        if not found:
            raise InputError(f"{root} holds no class folders; expected {root}/<class>/<image>")
        classes = check_classes(found, classes, str(root))
        number = {name: label for label, name in enumerate(classes)}
        paths, labels = [], []
        for name in found:
            start = len(paths)
            for folder, subfolders, files in os.walk(root / name):
                subfolders.sort()
                paths += [os.path.join(folder, file) for file in sorted(files) if is_image_name(file)]
            labels += [number[name]] * (len(paths) - start)
        if not paths:
            raise InputError(f"{root} holds {len(found)} class folders but no images (.jpg, .jpeg, .png, .webp, ...)")
        return cls(paths, np.asarray(labels, dtype=np.int64), classes)

    def content(self, index: int) -> bytes:
        try:
            return Path(self.names[index]).read_bytes()
        except OSError as error:
            raise InputError(f"cannot read {self.names[index]}: {error.strerror}") from error

    def parts(self) -> int:
        return max(1, len(self) // 256)

    def stream(self, part: int) -> Iterator[tuple[int, bytes]]:
        for index in range(part, len(self), self.parts()):
            yield index, self.content(index)


class TarSource(Source):
    """Tar shards: members `.../<class>/<image>`, or the webdataset layout `<key>.<image ending>` with `<key>.cls`.

    Plain `.tar` shards allow random access; compressed ones are read from end to end, which only sets held in memory
    can do.

    Args:
        shards: tar files.
        classes: the classes in label order; None: the folders found, sorted.

    Raises:
        InputError: a shard is damaged, or holds no images, or a folder that is none of `classes`.
    """

    def __init__(self, shards: list[Path], classes: tuple[str, ...] | None = None):
        self.shards = shards
        self.random_access = all(shard.suffix == ".tar" for shard in shards)
        self.names, self._where, folders = [], [], []
        numbers: dict[str, int] = {}
        for number, shard in enumerate(shards):
            for member, label in _members(shard):
                name = f"{shard}:{member.name}"
                if label is not None:
                    numbers[name.rsplit(".", 1)[0]] = label
                    continue
                self.names.append(name)
                self._where.append((number, member.offset_data, member.size))
                folders.append(Path(member.name).parent.name)
        if not self.names:
            raise InputError(f"no images in {', '.join(map(str, shards))}; expected members <class>/<image>")
        if numbers:
            self.labels = self._numbered(numbers)
            self.classes = classes or tuple(str(label) for label in range(int(self.labels.max()) + 1))
        else:
            self.classes = check_classes(tuple(sorted(set(folders))), classes, str(shards[0].parent))
            position = {name: label for label, name in enumerate(self.classes)}
            self.labels = np.asarray([position[folder] for folder in folders], dtype=np.int64)

    def _numbered(self, numbers: dict[str, int]) -> np.ndarray:
        stems = [name.rsplit(".", 1)[0] for name in self.names]
        missing = next((stem for stem in stems if stem not in numbers), None)
        if missing is not None:
            raise InputError(f"{missing} has an image but no .cls file with its label")
        return np.asarray([numbers[stem] for stem in stems], dtype=np.int64)

    def content(self, index: int) -> bytes:
        number, offset, size = self._where[index]
        with open(self.shards[number], "rb") as file:
            file.seek(offset)
            return file.read(size)

    def parts(self) -> int:
        return len(self.shards)

    def stream(self, part: int) -> Iterator[tuple[int, bytes]]:
        mine = [index for index, (number, _, _) in enumerate(self._where) if number == part]
        opener = gzip.open if self.shards[part].name.endswith("gz") else open
        with opener(self.shards[part], "rb") as file:
            for index in mine:
                _, offset, size = self._where[index]
                file.seek(offset)
                yield index, file.read(size)


def class_folders(root: Path) -> tuple[str, ...]:
    """Names of the class folders in `root`, sorted: every folder that is not hidden."""
    return tuple(sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and entry.name[0] != "."))


def check_classes(found: tuple[str, ...], classes: tuple[str, ...] | None, where: str) -> tuple[str, ...]:
    """The label order: `classes` if given, then every folder found must be among them; else `found`."""
    if classes is None:
        return found
    unknown = [name for name in found if name not in set(classes)]
    if unknown:
        raise InputError(f"{where} holds the class {unknown[0]!r}, which is none of the {len(classes)} known classes")
    return classes


def _members(shard: Path) -> Iterator[tuple[tarfile.TarInfo, int | None]]:
    """Every image (with None) and every .cls file (with its number)."""
    try:
        with tarfile.open(shard) as tar:
            for member in tar:
                if member.isfile() and member.name.endswith(".cls"):
                    file = tar.extractfile(member)
                    assert file is not None
                    yield member, int(file.read())
                elif member.isfile() and is_image_name(member.name):
                    yield member, None
    except (tarfile.TarError, EOFError, zlib.error, OSError, ValueError) as error:
        raise InputError(f"cannot read the shard {shard}: {error}; is the copy complete?") from error
