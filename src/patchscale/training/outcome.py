"""How training ends early, and what a full or unwritable disk looks like to a user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from patchscale.errors import Failure, InputError


class Stopped(Exception):
    """The trial was asked to stop; its checkpoint is written and the same call continues it."""


class TrainingFailed(Failure):
    """The trial cannot go on; the message says where and why."""


class SaidElsewhere(TrainingFailed):
    """The trial cannot go on, and the first process says why."""


class ProcessLost(TrainingFailed):
    """Another process of this trial is gone without a word; the last checkpoint stands."""


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turns what a disk refuses inside the block into one line.

    Raises:
        InputError: the disk is full, or the folder cannot be written or is gone.
    """
    try:
        yield
    except OSError as error:
        raise InputError(
            f"cannot write to {folder}: {error.strerror or error}; what was written before is intact: "
            "make room or make it writable, and the same command continues"
        ) from error
