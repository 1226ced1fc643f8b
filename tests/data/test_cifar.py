"""CIFAR archives, the binary first; a pickle that names anything but arrays is refused."""

from __future__ import annotations

import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from patchscale.data import DataSpec, cifar, load
from patchscale.errors import InputError


@pytest.fixture
def batches() -> tuple[np.ndarray, np.ndarray]:
    """Fifty scenes at CIFAR's size, ten a batch: images uint8 [50, 3072], labels [50]."""
    from patchscale.data.scenes import scene

    images = [scene(index, (32, 32)).image.transpose(2, 0, 1).reshape(-1) for index in range(50)]
    return np.stack(images), np.arange(50, dtype=np.uint8) % 10


def write_binary(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    folder.mkdir(parents=True)
    records = np.concatenate([labels[:, None], images], axis=1)
    for number in range(5):
        (folder / f"data_batch_{number + 1}.bin").write_bytes(records[10 * number : 10 * number + 10].tobytes())
    (folder / "test_batch.bin").write_bytes(records[:10].tobytes())


def write_python(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for name, part in [(f"data_batch_{n + 1}", slice(10 * n, 10 * n + 10)) for n in range(5)] + [
        ("test_batch", slice(10))
    ]:
        batch = {
            b"data": images[part],
            b"labels": labels[part].tolist(),
            b"batch_label": b"x",
            b"filenames": [b"a.png"],
        }
        (folder / name).write_bytes(pickle.dumps(batch))


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["binary", "python"])
def test_both_versions_give_the_same_images(tmp_path, batches, kind, packed):
    images, labels = batches
    inner = "cifar-10-batches-bin" if kind == "binary" else "cifar-10-batches-py"
    (write_binary if kind == "binary" else write_python)(tmp_path / "unpacked" / inner, images, labels)
    folder = tmp_path / "unpacked"
    if packed:
        folder = tmp_path / "packed"
        folder.mkdir()
        with tarfile.open(folder / f"cifar-10-{kind}.tar.gz", "w:gz") as tar:
            tar.add(tmp_path / "unpacked" / inner, inner)
    loaded = load(DataSpec(name=str(folder)), "train", (32, 32))
    assert (loaded.name, loaded.classes[6]) == ("cifar-10", "frog")
    assert loaded.read(range(50)).numpy().tobytes() == images.tobytes()
    assert loaded.labels.tolist() == labels.tolist()
    assert load(DataSpec(name=str(folder)), "test", (16, 16)).read([0]).shape == (1, 3, 16, 16)


def test_the_binary_version_is_preferred(tmp_path, batches):
    images, labels = batches
    write_binary(tmp_path / "cifar-10-batches-bin", images, labels)
    write_python(tmp_path / "cifar-10-batches-py", 255 - images, labels)
    assert load(DataSpec(name=str(tmp_path)), "train", (32, 32)).read([0]).numpy().tobytes() == images[0].tobytes()


def test_cifar_100_uses_fine_labels(tmp_path):
    record = np.zeros((2, 3074), dtype=np.uint8)
    record[:, 0], record[:, 1] = 3, (99, 42)
    for name in ("train.bin", "test.bin"):
        (tmp_path / name).write_bytes(record.tobytes())
    images = load(DataSpec(name=str(tmp_path)), "train", (32, 32))
    assert [images.classes[label] for label in images.labels] == ["worm", "leopard"]


class Malicious:
    """Unpickling this without care runs a command."""

    def __reduce__(self):
        return os.system, ("touch was-run",)


@pytest.mark.parametrize("payload", [Malicious(), {b"data": Malicious(), b"labels": [1]}, {b"data": torch.zeros(1)}])
def test_a_pickle_that_names_anything_else_is_refused(tmp_path, monkeypatch, payload):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="refusing to read evil: it names"):
        cifar.read_pickled_batch(pickle.dumps(payload), "evil")
    assert not (tmp_path / "was-run").exists()


@pytest.mark.parametrize("content", [b"", b"junk", pickle.dumps([1, 2]), pickle.dumps({b"data": 3})])
def test_other_pickles_are_no_batches(content):
    with pytest.raises(InputError, match="batch"):
        cifar.read_pickled_batch(content, "batch")


def test_wrong_counts_and_broken_records_are_said(tmp_path, batches):
    images, labels = batches
    write_binary(tmp_path / "a" / "cifar-10-batches-bin", images, labels)
    with pytest.raises(InputError, match=r"has 50,000 images of 10 classes in its train split, but .* holds 50 "):
        load(DataSpec(name="cifar-10", root=str(tmp_path / "a")), "train", (32, 32))
    (tmp_path / "a" / "cifar-10-batches-bin" / "data_batch_2.bin").write_bytes(b"x" * 3000)
    with pytest.raises(InputError, match=r"data_batch_2\.bin"):
        load(DataSpec(name=str(tmp_path / "a")), "train", (32, 32))
