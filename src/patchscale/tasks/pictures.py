"""What tasks that draw share: which test images are shown, and PNG files."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

SHOWN = 4
"""Test images that a finished trial shows."""


def shown(test_size: int) -> list[int]:
    """Indices of the test images that are drawn: evenly spread over the set, equal for every trial."""
    return np.unique(np.linspace(0, test_size - 1, min(SHOWN, test_size)).round().astype(int)).tolist()


def png(image: Image.Image) -> bytes:
    """The content of a PNG file."""
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
