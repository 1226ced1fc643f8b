"""What can be learned from a page's text layer without anyone's labels: how dense the text is."""

from __future__ import annotations

import torch
from torch import Tensor

from patchscale.data.pages.documents import Document
from patchscale.errors import InputError


def line_density(document: Document, patch_size: int) -> Tensor:
    """Text lines that begin in each row of tokens, float32 [rows], rows as in `Document.grid`.

    Raises:
        InputError: a page without text lines in the table.
    """
    counts = torch.zeros(document.grid(patch_size)[0])
    first = 0
    for page in document.pages:
        if page.lines is None:
            raise InputError(
                f"{document.name} has no text lines in its table; build the set from PDFs with `patchscale pages`"
            )
        rows = -(-page.height // patch_size)
        for upper, _ in page.lines:
            row = (upper - page.top) // patch_size
            if 0 <= row < rows:
                counts[first + row] += 1
        first += rows
    return counts
