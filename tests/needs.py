"""What a test needs of the machine beyond Python packages: images, a compiler, a browser, the right to mount.

Where it is absent a test skips and says what is missing and how to get it. Where `PATCHSCALE_TEST_ALL` promises that
everything is there (CI, `make test-browser`, `make test-slurm`) it fails instead: skipping must not pass for success.
"""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

PROMISE = "PATCHSCALE_TEST_ALL"


def absent(reason: str) -> NoReturn:
    """Ends the test: skipped, or failed where everything was promised."""
    if os.environ.get(PROMISE):
        pytest.fail(f"{reason} ({PROMISE} is set, so it may not be missing)")
    pytest.skip(reason)
