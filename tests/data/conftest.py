"""Every test decodes into a cache of its own run, and never fetches anything."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchscale.data.digits import source_digits


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory, monkeypatch) -> Path:
    """An empty cache, and a machine without known places."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("PATCHSCALE_CACHE", str(folder))
    monkeypatch.setenv("PATCHSCALE_OFFLINE", "1")
    monkeypatch.setenv("PATCHSCALE_THREADS", "2")
    return folder


def encode(pixels: np.ndarray, ending: str = ".png") -> bytes:
    """An image file from uint8 pixels [H, W] or [H, W, 3]."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, {".png": "PNG", ".jpg": "JPEG", ".JPEG": "JPEG"}[ending])
    return file.getvalue()


@pytest.fixture
def class_folders(tmp_path) -> Path:
    """A small ImageFolder of real digits: train/ with 3 classes of 6, val/ with 3 of 2, 8x8 grey PNG."""
    root = tmp_path / "three-digits"
    for split, folder, count in (("train", "train", 6), ("test", "val", 2)):
        images, labels = source_digits(split)
        for digit in (2, 5, 7):
            place = root / folder / f"digit-{digit}"
            place.mkdir(parents=True)
            for number, image in enumerate(images[labels == digit][:count]):
                (place / f"{number}.png").write_bytes(encode(image))
    return root
