"""A small disk of its own, where the machine lets us mount one; images on disk; a trial that was left alone."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from patchscale.data import DataSpec, load
from patchscale.training import TrialConfig, train
from tests.faults.disks import Disk
from tests.needs import absent
from tests.training.trials import small_trial


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", folder], capture_output=True, text=True
    )
    if mounted.returncode:
        absent(f"a full disk is a small tmpfs, which only root may mount: {mounted.stderr.strip()}")
    yield Disk(folder)
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Forty JPEG files of two classes in train and val folders."""
    root = tmp_path / "images"
    pixels = load(DataSpec(name="digits"), "train", (24, 24)).read(torch.arange(40)).permute(0, 2, 3, 1).numpy()
    for index, image in enumerate(pixels):
        folder = root / ("val" if index % 4 == 0 else "train") / str(index % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index}.jpg", quality=95)
    return root


@pytest.fixture
def config(images: Path) -> TrialConfig:
    """A trial that decodes those images while it trains."""
    return small_trial(data={"name": str(images), "memory_gib": 0})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`small_trial()`, left alone."""
    folder = tmp_path_factory.mktemp("whole") / "trial"
    train(small_trial(), folder)
    return folder
