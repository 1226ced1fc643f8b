"""Fashion-MNIST's files as they lie, and damaged ones."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

from patchscale.data import DataSpec, load
from patchscale.data.digits import source_digits
from patchscale.errors import InputError


def write_idx(path: Path, values: np.ndarray) -> None:
    content = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture(params=[".gz", ""])
def idx_digits(request, tmp_path) -> Path:
    """scikit-learn's digits in idx files."""
    for split, prefix in (("train", "train"), ("test", "t10k")):
        images, labels = source_digits(split)
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte{request.param}", images)
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte{request.param}", labels.astype(np.uint8))
    return tmp_path


def test_fashion_mnist_as_it_lies(real_data):
    images = load(DataSpec(name=str(real_data / "fashion-mnist")), "test", (28, 28))
    assert (images.name, len(images), images.classes[9]) == ("fashion-mnist", 10_000, "Ankle boot")
    assert images.labels.bincount().tolist() == [1000] * 10
    pixels = images.read(range(10_000))[:, 0]
    raw = gzip.decompress((real_data / "fashion-mnist" / "t10k-images-idx3-ubyte.gz").read_bytes())[16:]
    assert pixels.numpy().tobytes() == raw
    assert abs(float(pixels.float().mean() / 255) - images.mean[0]) < 0.005
    assert images.resample_note == "original pixels"


def test_fashion_mnist_by_name_under_patchscale_data(real_data, monkeypatch):
    monkeypatch.setenv("PATCHSCALE_DATA", str(real_data))
    images = load(DataSpec(name="fashion_mnist", limit_test=100), "test", (32, 32))
    assert images.read([0]).shape == (1, 3, 32, 32)
    assert images.labels.bincount().tolist() == [10] * 10
    assert "28x28 originals resized to 32x32" in images.resample_note


def test_any_idx_files_plain_or_gzipped(idx_digits):
    images = load(DataSpec(name=str(idx_digits)), "train", (8, 8))
    assert images.classes == tuple("0123456789")
    assert torch.equal(images.read(range(1437)), load(DataSpec(name="digits"), "train", (8, 8)).read(range(1437)))


@pytest.mark.parametrize("damage", ["short", "cut", "foreign", "labels"])
def test_damaged_idx_files_are_named(idx_digits, damage):
    victim = next(idx_digits.glob("train-images*"))
    packed = victim.suffix == ".gz"
    content = gzip.decompress(victim.read_bytes()) if packed else victim.read_bytes()
    if damage == "labels":
        write_idx(next(idx_digits.glob("train-labels*")), np.zeros(7, dtype=np.uint8))
    elif damage == "cut" and packed:
        victim.write_bytes(victim.read_bytes()[:5000])
    else:
        content = content[:5000] if damage != "foreign" else b"PK" + content
        victim.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(InputError, match="train-images-idx3-ubyte"):
        load(DataSpec(name=str(idx_digits)), "train", (8, 8))
