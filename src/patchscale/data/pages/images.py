"""Pages as labelled images, without anyone's labels: which paper they are from, or whether they are in order.

An image is a run of neighbouring pages of one paper, one above the other. The last pages of every paper are for test.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from patchscale.data.encoded import Encoded, read_encoded
from patchscale.data.image_set import ImageSet
from patchscale.data.pages.documents import TABLE, WHITE, Document, load_documents
from patchscale.data.sources import Source
from patchscale.data.spec import DataSpec, Split
from patchscale.errors import InputError

ORDERS = ("in order", "exchanged")


class Stack(NamedTuple):
    """An image to be: places of pages in a document, from top to bottom, and its label."""

    document: Document
    pages: tuple[int, ...]
    label: int


def is_page_set(folder: Path) -> bool:
    """Whether a folder has a table of pages."""
    return (folder / TABLE).is_file()


def load_pages(folder: Path, spec: DataSpec, split: Split, input_size: tuple[int, int]) -> ImageSet:
    """The stacks of a split as a set of labelled images, which any task of classification takes.

    Raises:
        InputError: no `test_fraction`, no paper with enough pages, or one page that is to be in order.
    """
    if spec.test_fraction is None:
        raise InputError(f"{folder} holds papers; give test_fraction (such as 0.3): the share of last pages for test")
    documents = load_documents(folder)
    stacks = page_stacks(documents, split, spec.page_label, spec.pages_per_image, spec.test_fraction)
    classes = tuple(document.name for document in documents) if spec.page_label == "paper" else ORDERS
    source = PageSource(stacks, classes)
    files = [folder / TABLE, *dict.fromkeys(page.image for document in documents for page in document.pages)]
    facts = {"pages": spec.pages_per_image}
    found = Encoded(
        folder.resolve().name, split, files, lambda: source, source=str(folder), order=classes, count=len(source),
        facts=facts,
    )  # fmt: skip
    return read_encoded(found, spec, input_size)


def page_stacks(
    documents: list[Document], split: Split, label: str, pages_per_image: int, test_fraction: float
) -> list[Stack]:
    """Every run of `pages_per_image` neighbouring pages of a split; none has pages of both splits.

    Args:
        documents: papers; the place in the list is the label "paper".
        split: "test" has the last `test_fraction` of each paper's pages, at least one.
        label: "paper", or "order": each run as it is, and with its first half below the rest.
        pages_per_image: pages of a run.
        test_fraction: share.

    Raises:
        InputError: no paper has enough pages, or one page is to be in order.
    """
    if label == "order" and pages_per_image < 2:
        raise InputError(f"pages_per_image {pages_per_image} has no order; use 2 or more with page_label order")
    stacks = []
    for number, document in enumerate(documents):
        count = len(document.pages)
        first_test = count - max(1, round(test_fraction * count))
        first, last = (0, first_test) if split == "train" else (first_test, count)
        for start in range(first, last - pages_per_image + 1):
            run = tuple(range(start, start + pages_per_image))
            half = pages_per_image // 2
            if label == "paper":
                stacks.append(Stack(document, run, number))
            else:
                stacks += [Stack(document, run, 0), Stack(document, run[half:] + run[:half], 1)]
    if not stacks:
        raise InputError(
            f"no paper has {pages_per_image} pages for {split} with test_fraction {test_fraction:g}; "
            "lower pages_per_image"
        )
    return stacks


class PageSource(Source):
    """Stacks of pages as encoded images.

    Args:
        stacks: what each image shows.
        classes: names of the labels.
    """

    def __init__(self, stacks: list[Stack], classes: tuple[str, ...]) -> None:
        self.stacks, self.classes = stacks, classes
        self.labels = np.asarray([stack.label for stack in stacks], dtype=np.int64)
        self.names = [f"{s.document.name} pages {'+'.join(str(page + 1) for page in s.pages)}" for s in stacks]

    def content(self, index: int) -> bytes:
        """The pages as a BMP, the quickest to write and to read again; white beside a narrower page."""
        stack = self.stacks[index]
        parts = [stack.document.page_pixels(page) for page in stack.pages]
        canvas = np.full((sum(map(len, parts)), stack.document.width, 3), WHITE, np.uint8)
        top = 0
        for part in parts:
            canvas[top : top + len(part), : part.shape[1]] = part
            top += len(part)
        written = io.BytesIO()
        Image.fromarray(canvas).save(written, "BMP")
        return written.getvalue()

    def parts(self) -> int:
        return len(self)

    def stream(self, part: int) -> Iterator[tuple[int, bytes]]:
        yield part, self.content(part)
