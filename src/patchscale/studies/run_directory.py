"""The run directory is the truth: what a study is, which trials are done, running or failed, all read from files.

study.yaml   trials/<id>/{config.json, metrics.jsonl, result.json, progress.json, job.json, checkpoints/}
results.csv   learning_curves.csv   laws.json   report.html   figures/
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml

from patchscale.errors import InputError
from patchscale.files import write_json, write_text
from patchscale.studies.clear_errors import clear_errors
from patchscale.studies.schema import KEYS, Study, Trial
from patchscale.studies.slurm.note import JobNote
from patchscale.studies.slurm.queue import GONE, Job
from patchscale.training.outcome import writing

PATIENCE_SECONDS = 1.0
"""Who only looks whether a trial is held takes its lock for an instant; who holds it longer trains it."""

State = Literal["done", "running", "failed", "queued", "cancelled", "interrupted", "waiting"]


class Standing(NamedTuple):
    """Where a trial stands, and what is to be said about it: a failure's reason, or its job."""

    state: State
    detail: str = ""


class TrialBusy(Exception):
    """Another process holds this trial."""


class RunDirectory:
    """One study on disk; any number of processes may read it, and each trial is held by one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def study_file(self) -> Path:
        return self.path / "study.yaml"

    def create(self) -> None:
        """Makes the folder.

        Raises:
            InputError: the path is a file or cannot be written.
        """
        try:
            (self.path / "trials").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write to {self.path} ({error.strerror}); choose another --out") from error

    def write_study(self, study: Study, about: dict[str, Any]) -> None:
        """Stores the resolved study and `about` (threads, provenance)."""
        content = {"study": study.model_dump(mode="json"), **about}
        with writing(self.path):
            write_text(self.study_file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))

    def read_study(self) -> tuple[Study, dict[str, Any]]:
        """The stored study and what was stored with it.

        Raises:
            InputError: the folder is not a run directory, or its study.yaml does not fit.
        """
        if not self.study_file.is_file():
            raise InputError(f"{self.path} is not a run directory: it has no study.yaml")
        try:
            about = yaml.safe_load(self.study_file.read_text())
        except yaml.YAMLError as error:
            raise InputError(f"{self.study_file} is damaged ({getattr(error, 'problem', error)})") from error
        if not isinstance(about, dict) or not {"study", "sharing", "provenance"} <= set(about):
            raise InputError(f"{self.study_file} was not written by a run; choose another --out")
        with clear_errors(str(self.study_file), KEYS):
            return Study.model_validate(about.pop("study")), about

    def trial_folder(self, trial_id: str) -> Path:
        return self.path / "trials" / trial_id

    def result(self, trial_id: str) -> dict[str, Any] | None:
        """The row of a finished trial."""
        return _read_json(self.trial_folder(trial_id) / "result.json")

    def progress(self, trial_id: str) -> dict[str, Any] | None:
        """The last progress note of a trial: step, steps, loss, seconds."""
        return _read_json(self.trial_folder(trial_id) / "progress.json")

    def failure(self, trial_id: str) -> str | None:
        """Why a trial failed."""
        note = _read_json(self.trial_folder(trial_id) / "failed.json")
        return note["reason"] if note else None

    def write_failure(self, trial_id: str, reason: str) -> None:
        with writing(self.trial_folder(trial_id)):
            write_json(self.trial_folder(trial_id) / "failed.json", {"reason": reason})

    def job(self, trial_id: str) -> JobNote | None:
        """The trial's place in the last submission to a cluster that names it."""
        note = _read_json(self.trial_folder(trial_id) / "job.json")
        return JobNote.model_validate(note) if note else None

    def write_job(self, trial_id: str, note: JobNote) -> None:
        self.trial_folder(trial_id).mkdir(parents=True, exist_ok=True)
        write_json(self.trial_folder(trial_id) / "job.json", note.model_dump(mode="json"))

    def state(self, trial: Trial) -> State:
        """Where a trial stands now, as far as files say."""
        return self.standing(trial).state

    def standing(self, trial: Trial, queue: Mapping[str, Job] | None = None) -> Standing:
        """Where a trial stands now.

        Args:
            trial: of this study.
            queue: what Slurm says, if it was asked; without it, a job that was submitted counts as queued until a
                process holds the trial or its end is noted.
        """
        folder = self.trial_folder(trial.id)
        if (folder / "result.json").exists():
            return Standing("done")
        note = self.job(trial.id)
        if note is not None and note.array is None:
            note = None
        if self._held(trial.id):
            return Standing("running", f"job {note.job}" if note else "")
        if (reason := self.failure(trial.id)) is not None:
            return Standing("failed", reason)
        at_rest = "interrupted" if (folder / "metrics.jsonl").exists() else "waiting"
        if note is None:
            return Standing(at_rest)
        job = Job(note.ended) if note.ended else Job("PENDING") if queue is None else queue.get(note.job, Job(GONE))
        if job.phase == "ended":
            return Standing(at_rest, f"job {note.job} ended: {job.state}")
        return Standing(job.phase, f"job {note.job}" + (f" ({job.reason})" if job.reason not in ("", "None") else ""))

    @contextlib.contextmanager
    def hold(self, trial_id: str) -> Iterator[Path]:
        """Holds a trial for this process until the block ends or the process dies; gives its folder.

        Raises:
            TrialBusy: another process holds it.
            InputError: its folder cannot be written.
        """
        folder = self.trial_folder(trial_id)
        with contextlib.ExitStack() as held:
            with writing(folder):
                folder.mkdir(parents=True, exist_ok=True)
                held.enter_context(hold_folder(folder))
                (folder / "failed.json").unlink(missing_ok=True)
            yield folder

    @contextlib.contextmanager
    def hold_study(self) -> Iterator[None]:
        """Waits until no other process is writing study.yaml, and keeps others waiting meanwhile.

        Raises:
            InputError: the folder cannot be written.
        """
        with contextlib.ExitStack() as held:
            with writing(self.path):
                file = held.enter_context((self.path / "lock").open("w"))
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _held(self, trial_id: str) -> bool:
        lock = self.trial_folder(trial_id) / "lock"
        if not lock.exists():
            return False
        with lock.open("r") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
        return False


@contextlib.contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Holds the folder of a trial for this process until the block ends or the process dies.

    Raises:
        TrialBusy: another process holds it.
    """
    with (folder / "lock").open("w") as file:
        started = time.monotonic()
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() - started > PATIENCE_SECONDS:
                    raise TrialBusy(f"another process is training in {folder}") from error
            time.sleep(0.01)
        yield


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
