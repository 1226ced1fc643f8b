"""The process in which one trial runs; on one machine it is forked, so that its peak memory is its own.

It stops at a step boundary, with a checkpoint, on SIGTERM, SIGINT or SIGUSR1, and when the process that started it
is gone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import traceback
from collections.abc import Callable

from patchscale.errors import InputError
from patchscale.files import write_json
from patchscale.studies.provenance import commit
from patchscale.studies.run_directory import RunDirectory, TrialBusy
from patchscale.studies.schema import Trial
from patchscale.training import (
    Processes,
    Progress,
    SaidElsewhere,
    Stopped,
    TrainingFailed,
    default_device,
    join,
    train,
)

DONE, FAILED, CRASHED, STOPPED, BUSY = 0, 1, 70, 75, 76
"""Exit codes. FAILED: the reason is written; CRASHED: it could not be; STOPPED: try again, as clusters know it."""

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
NOTE_SECONDS = 1.0


def run_trial(run: RunDirectory, trial: Trial) -> int:
    """Runs one trial in this process, or in all that torchrun started, to its end or until it is asked to stop.

    Returns:
        an exit code; the first process writes what is to be known.
    """
    asked_to_stop = []
    for number in STOP_SIGNALS:
        signal.signal(number, lambda *_: asked_to_stop.append(True))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    parent = os.getppid()
    with contextlib.ExitStack() as held:
        try:
            with join(default_device()) as processes:
                with processes.together():
                    if processes.first:
                        held.enter_context(run.hold(trial.id))
                if processes.share(run.result(trial.id)) is not None:
                    (run.trial_folder(trial.id) / "checkpoints" / "last.safetensors").unlink(missing_ok=True)
                    return DONE
                _train(run, trial, processes, lambda: bool(asked_to_stop) or os.getppid() != parent)
        except TrialBusy:
            return BUSY
        except Stopped:
            return STOPPED
        except SaidElsewhere:
            return FAILED
        except (InputError, TrainingFailed) as error:
            run.write_failure(trial.id, str(error))
            return FAILED
        except Exception as error:
            traceback.print_exc()
            log = run.trial_folder(trial.id) / "worker.log"
            run.write_failure(trial.id, f"{type(error).__name__}: {error} (details in {log})")
            return FAILED
    return DONE


def _train(run: RunDirectory, trial: Trial, processes: Processes, should_stop: Callable[[], bool]) -> None:
    folder, noted = run.trial_folder(trial.id), 0.0

    def note(progress: Progress) -> None:
        nonlocal noted
        if processes.first and (time.monotonic() - noted > NOTE_SECONDS or progress.step == progress.steps):
            noted = time.monotonic()
            write_json(folder / "progress.json", progress._asdict(), durable=False)

    train(trial.config, folder, report=note, should_stop=should_stop, commit=commit())
