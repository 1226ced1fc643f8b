"""Any image classification set of the Hugging Face hub, by name: `hf:OWNER/NAME` (extra `hub-data`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from patchscale.data.encoded import Encoded, read_encoded
from patchscale.data.image_set import ImageSet
from patchscale.data.parquet import _IMAGES, _LABELS
from patchscale.data.sources import Source
from patchscale.data.spec import DataSpec, Split
from patchscale.errors import InputError


def load_hub(spec: DataSpec, split: Split, input_size: tuple[int, int]) -> ImageSet:
    """Loads through the `datasets` library, which downloads to its own cache and says so.

    Raises:
        InputError: the library is missing, the set cannot be reached, or it has no images, labels or such split.
    """
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(f'{spec.name} needs the datasets library: pip install "patchscale[hub-data]"') from error
    name = spec.name.removeprefix("hf:")
    try:
        table = datasets.load_dataset(name)
    except Exception as error:  # the library raises many kinds; all mean that this set cannot be had
        raise InputError(f"cannot load {spec.name}: {error}; check the name and the connection") from error
    sides = {"train": ("train",), "test": ("validation", "valid", "val", "test")}[split]
    chosen = next((side for side in sides if side in table), None)
    if chosen is None:
        raise InputError(f"{spec.name} has the splits {', '.join(table)}; none of them is {' or '.join(sides)}")
    source = HubSource(table[chosen], name)
    files = [entry["filename"] for entry in table[chosen].cache_files]
    found = Encoded(name, split, files, lambda: source, source=spec.name, count=len(source))
    return read_encoded(found, spec, input_size)


class HubSource(Source):
    """Rows of a `datasets.Dataset` with an image and a label column, read without decoding by the library."""

    def __init__(self, table: Any, name: str):
        import datasets  # pyright: ignore[reportMissingImports]

        image = next((column for column in _IMAGES if column in table.column_names), None)
        label = next((column for column in _LABELS if column in table.column_names), None)
        if image is None or label is None:
            raise InputError(f"{name} has the columns {', '.join(table.column_names)}; expected an image and a label")
        self._image = image
        self._table = table.cast_column(image, datasets.Image(decode=False))
        self.labels = np.asarray(table[label], dtype=np.int64)
        names = getattr(table.features[label], "names", None)
        self.classes = tuple(names or (str(value) for value in range(int(self.labels.max()) + 1)))
        self.names = [f"{name}, row {row}" for row in range(len(table))]

    def content(self, index: int) -> bytes:
        value = self._table[index][self._image]
        if value["bytes"] is not None:
            return value["bytes"]
        with open(value["path"], "rb") as file:
            return file.read()

    def parts(self) -> int:
        return max(1, len(self) // 256)

    def stream(self, part: int) -> Iterator[tuple[int, bytes]]:
        for index in range(part, len(self), self.parts()):
            yield index, self.content(index)
