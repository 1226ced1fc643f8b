"""Fixtures for every room: real images beside the checkout, and uninitialised memory that cannot pass for data."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.needs import absent


def image_folder() -> Path:
    """`PATCHSCALE_DATA`, or `shared/data` beside the checkout; a named folder that is not there is an error."""
    named = os.environ.get("PATCHSCALE_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if named and not folder.is_dir():
        pytest.fail(f"PATCHSCALE_DATA names {folder}, which does not exist")
    if not folder.is_dir():
        absent(f"no real images: {folder} does not exist; set PATCHSCALE_DATA")
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real image sets."""
    return image_folder()


@pytest.fixture(autouse=True)
def poisoned_memory():
    """Fills every tensor that is created uninitialised with NaN (or the largest integer), so that reading it shows."""
    import torch

    before = torch.utils.deterministic.fill_uninitialized_memory, torch.are_deterministic_algorithms_enabled()
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.use_deterministic_algorithms(True, warn_only=False)
    yield
    torch.utils.deterministic.fill_uninitialized_memory = before[0]
    torch.use_deterministic_algorithms(before[1])
