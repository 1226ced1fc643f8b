"""Finished trials of other run directories that a study shares: taken over, so that no trial is trained twice."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from patchscale.errors import InputError
from patchscale.files import write_bytes
from patchscale.studies.run_directory import RunDirectory, TrialBusy
from patchscale.studies.schema import Trial

NOT_TAKEN = ("lock", "worker.log", "progress.json", "job.json", "checkpoints", ".*.tmp")
"""What belongs to the run that trained a trial, not to its outcome."""


def runs_among(places: Sequence[Path]) -> list[RunDirectory]:
    """The run directories that `places` are or hold, by name; an empty folder holds none yet.

    Raises:
        InputError: a place is not there, or is full of something else.
    """
    found = []
    for place in places:
        if not place.is_dir():
            raise InputError(f"--reuse {place}: no such folder; give a run directory, or a folder of them")
        files = [place / "study.yaml"] if (place / "study.yaml").is_file() else sorted(place.glob("*/study.yaml"))
        if not files and any(place.iterdir()):
            raise InputError(f"--reuse {place} neither is nor holds a run directory (study.yaml); give one that does")
        found += [RunDirectory(file.parent) for file in files]
    return found


def take_over(run: RunDirectory, trials: Sequence[Trial], others: Sequence[RunDirectory]) -> dict[str, Path]:
    """Copies finished trials of `others` into `run`, where nothing of them has begun yet.

    A trial's id is the hash of its whole configuration, so an equal id is the same trial; its row keeps the commit and
    the device that trained it. Runs that only count their trials have trained none of them.

    Returns:
        the run directory that each trial was taken from, by id.
    """
    taken = {}
    others = [one for one in others if one.read_study()[0].counting is None]
    for trial in trials:
        source = next((one for one in others if one.path != run.path and one.result(trial.id) is not None), None)
        if source is not None and run.state(trial) in ("waiting", "failed"):
            with contextlib.suppress(TrialBusy), run.hold(trial.id) as folder:
                _copy(source.trial_folder(trial.id), folder)
                taken[trial.id] = source.path
    return taken


def _copy(source: Path, target: Path) -> None:
    """Everything of a trial; result.json, which says that it is finished, comes when all else is on disk."""
    left_out = shutil.ignore_patterns(*NOT_TAKEN, "result.json")
    shutil.copytree(source, target, ignore=left_out, copy_function=_copy_to_disk, dirs_exist_ok=True)
    write_bytes(target / "result.json", (source / "result.json").read_bytes())


def _copy_to_disk(source: str, target: str) -> None:
    shutil.copy2(source, target)
    with open(target, "rb") as file:
        os.fsync(file.fileno())
