"""The local launcher: several one-trial processes share the machine's cores, or one each per GPU."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from patchscale.errors import Failure
from patchscale.studies.run_directory import RunDirectory
from patchscale.studies.schema import Trial
from patchscale.studies.slurm.attend import describe_death
from patchscale.studies.worker import BUSY, DONE, FAILED, STOPPED
from patchscale.training.outcome import writing

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
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = workers or gpus or min(cores, trials)
        return cls(workers=workers, threads=max(1, cores // workers), gpus=gpus)


class LocalLauncher:
    """Runs trials until each is done or failed, `sharing.workers` at a time.

    Args:
        run: the run directory; its study.yaml is written.
        sharing: workers and threads.
        watch: called several times a second with the ids of the trials now running here.
    """

    def __init__(self, run: RunDirectory, sharing: Sharing, watch: Callable[[set[str]], None]) -> None:
        self.run, self.sharing, self.watch = run, sharing, watch

    def launch(self, trials: list[Trial]) -> None:
        """Returns when no trial is left to run; trials that another process holds are waited for.

        Raises:
            KeyboardInterrupt: after every worker has written its checkpoint.
            Failure: the process that forks the workers ended.
        """
        waiting = [trial for trial in trials if self.run.result(trial.id) is None]
        if not waiting:
            return
        with self._start_nursery() as nursery:
            try:
                self._feed(nursery, waiting)
            finally:
                assert nursery.stdin is not None
                with contextlib.suppress(BrokenPipeError):
                    nursery.stdin.close()
                nursery.wait()
        self.watch(set())

    def _feed(self, nursery: subprocess.Popen, waiting: list[Trial]) -> None:
        assert nursery.stdin is not None
        assert nursery.stdout is not None
        os.set_blocking(nursery.stdout.fileno(), False)
        slots = list(range(self.sharing.workers))
        running: dict[str, tuple[Trial, int]] = {}
        not_before: dict[str, float] = {}
        pending = b""
        while waiting or running:
            for trial in [one for one in waiting if time.monotonic() >= not_before.get(one.id, 0.0)][: len(slots)]:
                waiting.remove(trial)
                running[trial.id] = trial, slots.pop(0)
                with writing(self.run.path):
                    self.run.trial_folder(trial.id).mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(BrokenPipeError):  # it has ended, which is told below
                    nursery.stdin.write(f"{running[trial.id][1]} {trial.model_dump_json()}\n".encode())
                    nursery.stdin.flush()
            self.watch(set(running))
            time.sleep(POLL_SECONDS)
            *lines, pending = (pending + (nursery.stdout.read() or b"")).split(b"\n")
            for trial_id, code in (line.decode().split() for line in lines):
                trial, slot = running.pop(trial_id)
                slots.append(slot)
                if int(code) in {BUSY, STOPPED}:
                    not_before[trial_id] = time.monotonic() + BUSY_SECONDS
                    waiting.append(trial)
                elif int(code) not in {DONE, FAILED}:
                    self.run.write_failure(trial_id, describe_death(int(code)))
            if nursery.poll() is not None:
                raise Failure(
                    f"the process that starts trials is gone ({describe_death(nursery.returncode)}); running trials "
                    "save and stop, and the same command continues"
                )

    def _start_nursery(self) -> subprocess.Popen:
        command = [sys.executable, "-m", "patchscale.studies.nursery", str(self.run.path), str(self.sharing.gpus)]
        environment = os.environ | worker_environment(self.sharing.threads)
        return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def worker_environment(threads: int) -> dict[str, str]:
    """What a worker's libraries read: how many threads each of them may start, and an allocator that gives back."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PATCHSCALE_THREADS")
    return {**dict.fromkeys(names, str(threads)), "ARROW_DEFAULT_MEMORY_POOL": "system"}
