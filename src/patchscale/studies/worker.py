"""The process in which one trial runs; on one machine it is forked, so that its peak memory is its own.

It stops at a step boundary, with a checkpoint, on SIGTERM, SIGINT or SIGUSR1, and when the process that started it
is gone.
"""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from patchscale.errors import InputError
from patchscale.files import write_json
from patchscale.studies.provenance import commit
from patchscale.studies.run_directory import RunDirectory, TrialBusy
from patchscale.studies.schema import Trial
from patchscale.training import Progress, Stopped, TrainingFailed, train

DONE, FAILED, CRASHED, STOPPED, BUSY = 0, 1, 70, 75, 76
"""Exit codes. FAILED: the reason is written; CRASHED: it could not be; STOPPED: try again, as clusters know it."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
NOTE_SECONDS = 1.0


def run_trial(run: RunDirectory, trial: Trial) -> int:
    """Runs one trial in this process, to its end or until it is asked to stop; returns an exit code."""
    asked_to_stop = []
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: asked_to_stop.append(True))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    parent = os.getppid()
    try:
        with run.hold(trial.id) as folder:
            if run.result(trial.id) is not None:
                (folder / "checkpoints" / "last.safetensors").unlink(missing_ok=True)
                return DONE
            return _train(run, trial, folder, lambda: bool(asked_to_stop) or os.getppid() != parent)
    except TrialBusy:
        return BUSY


def _train(run: RunDirectory, trial: Trial, folder: Path, should_stop: Callable[[], bool]) -> int:
    noted = 0.0

    def note(progress: Progress) -> None:
        nonlocal noted
        if time.monotonic() - noted > NOTE_SECONDS or progress.step == progress.steps:
            noted = time.monotonic()
            write_json(folder / "progress.json", progress._asdict(), durable=False)

    try:
        train(trial.config, folder, report=note, should_stop=should_stop, commit=commit())
    except Stopped:
        return STOPPED
    except (InputError, TrainingFailed) as error:
        run.write_failure(trial.id, str(error))
        return FAILED
    except Exception as error:
        traceback.print_exc()
        run.write_failure(trial.id, f"{type(error).__name__}: {error} (details in {folder / 'worker.log'})")
        return FAILED
    return DONE
