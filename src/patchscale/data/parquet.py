"""Image sets in parquet files as the Hugging Face hub stores them: columns `image` {bytes, path} and `label`.

Needs pyarrow. A read fetches a whole row group (about a hundred images in the hub's files), so a set too large for
memory trains faster from tar shards or class folders.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from patchscale.data.sources import Source
from patchscale.data.spec import Split
from patchscale.errors import InputError

_LABELS = ("label", "labels", "fine_label", "class")
_IMAGES = ("image", "img", "jpg", "png")


def find_parquet(folder: Path, split: Split) -> list[Path]:
    """The parquet files of a split in `folder` or its `data/`, sorted."""
    for base in (folder, folder / "data"):
        files = sorted(base.glob("*.parquet")) if base.is_dir() else []
        for name in {"train": ("train",), "test": ("validation", "val", "test")}[split]:
            chosen = [file for file in files if re.match(rf"{name}[^a-z]", file.name.lower())]
            if chosen:
                return chosen
    return []


class ParquetSource(Source):
    """Rows of parquet files.

    Args:
        files: the files of one split.

    Raises:
        InputError: pyarrow is missing, a file is damaged, or image or label columns are missing.
    """

    def __init__(self, files: list[Path]):
        pq = _pyarrow_parquet()
        self.files, self._local = files, threading.local()
        self._groups: list[tuple[int, int, int]] = []  # file, row group, first image
        self.names, labels = [], []
        for number, file in enumerate(files):
            try:
                table = pq.ParquetFile(file)
            except (OSError, ValueError) as error:
                raise InputError(f"cannot read {file}: {error}; is the copy complete?") from error
            columns = table.schema_arrow.names
            image = next((name for name in _IMAGES if name in columns), None)
            label = next((name for name in _LABELS if name in columns), None)
            if image is None or label is None:
                raise InputError(f"{file} has the columns {', '.join(columns)}; expected an image and a label column")
            if number == 0:
                self._image, self.classes = image, _class_names(table.schema_arrow, label)
            for group in range(table.num_row_groups):
                self._groups.append((number, group, len(self.names)))
                values = table.read_row_group(group, columns=[label]).column(0).to_pylist()
                self.names += [f"{file}, row {len(self.names) + row}" for row in range(len(values))]
                labels += values
        if not labels or min(labels) < 0:
            raise InputError(f"{files[0].parent}: the files hold no labelled images (a label of -1 marks a hidden one)")
        self.labels = np.asarray(labels, dtype=np.int64)
        self.classes = self.classes or tuple(str(label) for label in range(int(self.labels.max()) + 1))
        self._starts = np.asarray([first for _, _, first in self._groups])

    def content(self, index: int) -> bytes:
        part = int(np.searchsorted(self._starts, index, side="right")) - 1
        return self._read(part)[index - int(self._starts[part])]["bytes"]

    def parts(self) -> int:
        return len(self._groups)

    def stream(self, part: int) -> Iterator[tuple[int, bytes]]:
        for row, value in enumerate(self._read(part)):
            yield int(self._starts[part]) + row, value["bytes"]

    def _read(self, part: int) -> list[dict[str, Any]]:
        """The images of one row group; each thread keeps the last one it read."""
        if getattr(self._local, "part", None) != part:
            number, group, _ = self._groups[part]
            table = _pyarrow_parquet().ParquetFile(self.files[number])
            self._local.rows = table.read_row_group(group, columns=[self._image]).column(0).to_pylist()
            self._local.part = part
        return self._local.rows


def _pyarrow_parquet() -> Any:
    try:
        import pyarrow.parquet as pq
    except ImportError as error:
        raise InputError('reading parquet files needs pyarrow: pip install "patchscale[hub-data]"') from error
    return pq


def _class_names(schema: Any, label: str) -> tuple[str, ...]:
    """Class names from the hub's note in the file, or an empty tuple."""
    note = (schema.metadata or {}).get(b"huggingface")
    if not note:
        return ()
    feature = json.loads(note).get("info", {}).get("features", {}).get(label, {})
    return tuple(feature.get("names") or ())
