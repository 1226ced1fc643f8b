"""The local launcher: several one-trial processes share the machine's cores, or one each per GPU."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from patchscale.studies.run_directory import RunDirectory
from patchscale.studies.schema import Trial
from patchscale.studies.worker import BUSY, DONE, FAILED, STOPPED

POLL_SECONDS = 0.2
BUSY_SECONDS = 2.0


@dataclass(frozen=True)
class Sharing:
    """How trials share a machine; stored with the study, because the number of threads decides the last digits."""

    workers: int
    threads: int
    """CPU threads of one worker."""
    gpus: int = 0

    @classmethod
    def of(cls, trials: int, *, workers: int | None, gpus: int) -> Sharing:
        """One worker per GPU, or per core: for small models several one-thread processes beat one with all threads."""
        cores = len(os.sched_getaffinity(0))
        workers = workers or gpus or min(cores, trials)
        return cls(workers=workers, threads=max(1, cores // workers), gpus=gpus)


@dataclass
class LocalLauncher:
    """Runs trials until each is done or failed, `sharing.workers` at a time."""

    run: RunDirectory
    sharing: Sharing
    watch: Callable[[set[str]], None] = lambda running: None
    """Called several times a second with the ids of the trials now running here."""
    _running: dict[str, subprocess.Popen] = field(default_factory=dict, init=False)

    def launch(self, trials: list[Trial]) -> None:
        """Returns when no trial is left to run; trials that another process holds are waited for.

        Raises:
            KeyboardInterrupt: after every worker has written its checkpoint.
        """
        waiting = [trial for trial in trials if self.run.result(trial.id) is None]
        retry_at: dict[str, float] = {}
        slots = list(range(self.sharing.workers))
        slot_of: dict[str, int] = {}
        try:
            while waiting or self._running:
                for trial in list(waiting):
                    if slots and time.monotonic() >= retry_at.get(trial.id, 0):
                        waiting.remove(trial)
                        slot_of[trial.id] = slots.pop(0)
                        self._running[trial.id] = self._start(trial, slot_of[trial.id])
                self.watch(set(self._running))
                time.sleep(POLL_SECONDS)
                for trial in trials:
                    process = self._running.get(trial.id)
                    if process is None or process.poll() is None:
                        continue
                    del self._running[trial.id]
                    slots.append(slot_of.pop(trial.id))
                    if process.returncode in {BUSY, STOPPED}:
                        retry_at[trial.id] = time.monotonic() + BUSY_SECONDS
                        waiting.append(trial)
                    elif process.returncode not in {DONE, FAILED}:
                        self.run.write_failure(trial.id, _death(process.returncode))
            self.watch(set())
        finally:
            self._stop()

    def _start(self, trial: Trial, slot: int) -> subprocess.Popen:
        folder = self.run.trial_folder(trial.id)
        folder.mkdir(parents=True, exist_ok=True)
        threads = str(self.sharing.threads)
        environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        if self.sharing.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = str(slot % self.sharing.gpus)
        command = [sys.executable, "-m", "patchscale.studies.worker", str(self.run.path), trial.id]
        with (folder / "worker.log").open("a") as log:
            return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _stop(self) -> None:
        for process in self._running.values():
            process.send_signal(signal.SIGTERM)
        for process in self._running.values():
            process.wait()


def _death(code: int) -> str:
    if code < 0:
        name = signal.Signals(-code).name
        hint = "; perhaps the machine ran out of memory" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    return f"its process ended with exit code {code}; see worker.log"
