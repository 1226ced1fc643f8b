"""Documents as bands of pixels, from top to bottom, whatever way their pages are stored.

Shape letters: h rows of a band, W width in pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from patchscale.data.decode import is_image_name
from patchscale.errors import InputError

TABLE = "pages.jsonl"
WHITE = 255


@dataclass(frozen=True)
class Page:
    """One page of a document.

    Attributes:
        image: the file that shows it.
        start: its first row in that file.
        top: its first row in the document.
        height, width: pixels.
        words: words of its text layer, or None.
        lines: [top, bottom] of each text line in rows of the document, or None without a text layer.
    """

    image: Path
    start: int
    top: int
    height: int
    width: int
    words: int | None = None
    lines: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True)
class Document:
    """Pages one above the other.

    Attributes:
        name: of the paper.
        pages: from top to bottom.
    """

    name: str
    pages: tuple[Page, ...]

    @property
    def height(self) -> int:
        """Rows of all pages."""
        return self.pages[-1].top + self.pages[-1].height

    @property
    def width(self) -> int:
        """Columns of the widest page."""
        return max(page.width for page in self.pages)

    def grid(self, patch_size: int) -> tuple[int, int]:
        """Rows and columns of tokens, page after page: a page's last patches are filled with white."""
        rows = sum(-(-page.height // patch_size) for page in self.pages)
        return rows, -(-self.width // patch_size)

    def page_pixels(self, number: int) -> np.ndarray:
        """Page `number` (from 0), uint8 [h, W, 3].

        Raises:
            InputError: its image cannot be read.
        """
        page = self.pages[number]
        return _read(page.image)[page.start : page.start + page.height]

    def bands(self, rows: int, patch_size: int) -> Iterator[Tensor]:
        """Pixels uint8 [3, h, W] in order, h at most `rows` and both multiples of `patch_size`, white beyond a page.

        One page's pixels are decoded at a time (a stitched file once for all of its pages).

        Raises:
            InputError: `rows` is less than a patch, or an image cannot be read.
        """
        if rows < patch_size:
            raise InputError(f"bands of {rows} rows hold no patch of {patch_size}; use {patch_size} or more")
        step = rows - rows % patch_size
        width = self.grid(patch_size)[1] * patch_size
        opened: tuple[Path, np.ndarray] | None = None
        for page in self.pages:
            if opened is None or opened[0] != page.image:
                opened = (page.image, _read(page.image))
            pixels = opened[1][page.start : page.start + page.height]
            for first in range(0, page.height, step):
                part = pixels[first : first + step]
                canvas = np.full((-(-len(part) // patch_size) * patch_size, width, 3), WHITE, np.uint8)
                canvas[: part.shape[0], : part.shape[1]] = part
                yield torch.from_numpy(canvas).permute(2, 0, 1)


def load_documents(folder: Path | str) -> list[Document]:
    """The documents of a folder: a set that `build_pages` made, page images with a table, or stitched images alone.

    A table is `pages.jsonl` with a line a page: doc, page, image, width, height, and for stitched images `top`.

    Raises:
        InputError: no such folder, neither table nor images, or a table that does not fit.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"no folder of documents at {folder}")
    if (folder / TABLE).is_file():
        return _from_table(folder)
    images = sorted(file for file in folder.rglob("*") if is_image_name(file.name))
    if not images:
        raise InputError(f"{folder} holds neither {TABLE} nor images; make a set with `patchscale pages PDF_DIR OUT`")
    documents = []
    for file in images:
        with Image.open(file) as image:
            page = Page(file, 0, 0, image.height, image.width)
        documents.append(Document(file.relative_to(folder).with_suffix("").as_posix(), (page,)))
    return documents


def _from_table(folder: Path) -> list[Document]:
    papers: dict[str, list[dict[str, Any]]] = {}
    for number, line in enumerate((folder / TABLE).read_text().splitlines(), 1):
        try:
            row = json.loads(line)
            papers.setdefault(row["doc"], []).append(row)
            for key in ("page", "image", "height", "width"):
                row[key]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(f"{folder / TABLE}, line {number}: not a page of a document ({error!r})") from error
    return [_document(folder, name, rows) for name, rows in papers.items()]


def _document(folder: Path, name: str, rows: list[dict[str, Any]]) -> Document:
    pages, top = [], 0
    for row in sorted(rows, key=lambda one: one["page"]):
        lines = None if row.get("lines") is None else tuple((first, last) for first, last in row["lines"])
        page = Page(folder / row["image"], row.get("top", 0), top, row["height"], row["width"], row.get("words"), lines)
        pages.append(page)
        top += page.height
    return Document(name, tuple(pages))


def _read(file: Path) -> np.ndarray:
    """uint8 [h, W, 3]; Pillow's limit on large images does not hold for pages, which are meant to be long."""
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = None
    try:
        with Image.open(file) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"cannot read the page image {file} ({error})") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
