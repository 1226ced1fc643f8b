"""What a job runs: starts its trial's processes, passes signals on, and puts the job back into the queue.

It is pickled by value and calls nothing that imports torch, so that a node does not import it twice.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from patchscale.files import write_json
from patchscale.studies.worker import BUSY, STOPPED

FIRST_PORT = 20_000
"""Port of the processes' meeting place; the job's number is added to it."""


@dataclass(frozen=True)
class TrialJob:
    """One trial on the nodes that Slurm gives; runs once on each node, and again whenever the job is requeued."""

    run: str
    trial_id: str
    nodes: int
    processes: int
    """Per node."""
    environment: dict[str, str]

    def __call__(self) -> str:
        """Returns what the trial came to.

        Raises:
            SystemExit: with code 75 after the trial was saved, 76 if another process trains it.
        """
        asked: list[int] = []
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(number, lambda number, frame: asked.append(number))
        code = self._attend(asked)
        folder = Path(self.run) / "trials" / self.trial_id
        first = os.environ.get("SLURM_PROCID", "0") == "0"
        if (folder / "result.json").exists():
            return "done"
        if code == BUSY:
            raise SystemExit(BUSY)
        if asked or code == STOPPED or -code in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
            names = ", ".join(signal.Signals(number).name for number in asked) or "a signal to the trial"
            print(f"patchscale: the trial stopped with code {code} after {names}", flush=True)
            if first:
                _requeue_if_running()
            raise SystemExit(STOPPED)
        if first and not (folder / "failed.json").exists():
            write_json(folder / "failed.json", {"reason": describe_death(code)})
        return "failed"

    def _attend(self, asked: list[int]) -> int:
        """Starts the trial on this node and waits for its end; asks it to stop at a step boundary if asked to."""
        with (Path(self.run) / "trials" / self.trial_id / "worker.log").open("ab") as log:
            child = subprocess.Popen(
                self.command(),
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        passed_on = False
        while True:
            try:
                return child.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                if asked and not passed_on:
                    child.terminate()
                    passed_on = True

    def command(self) -> list[str]:
        """The command of this node: one process, or torchrun over all processes of all nodes."""
        work = ["-m", "patchscale.studies.slurm.process", self.run, self.trial_id]
        if self.nodes * self.processes == 1:
            return [sys.executable, *work]
        number = int(os.environ["SLURM_JOB_ID"])
        return [
            *(sys.executable, "-m", "torch.distributed.run"),
            f"--nnodes={self.nodes}",
            f"--nproc-per-node={self.processes}",
            f"--node-rank={os.environ['SLURM_NODEID']}",
            f"--master-addr={_first_host()}",
            f"--master-port={FIRST_PORT + number % FIRST_PORT}",
            "--signals-to-handle=SIGTERM,SIGINT,SIGUSR1,SIGUSR2",
            *work,
        ]


def describe_death(code: int) -> str:
    """Why a process that left no word ended, by its exit code (negative: a signal)."""
    if code < 0:
        name = signal.Signals(-code).name
        hint = "; perhaps the machine ran out of memory" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{hint}"
    return f"its process ended with exit code {code}; see worker.log"


def _requeue_if_running() -> None:
    """A job that Slurm itself requeues or that a user cancelled is no longer running in its books: leave it then."""
    array, index = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    # SLURM_JOB_ID of an array's last job is the array's own number, which means all of its jobs.
    job = f"{array}_{index}" if array else os.environ["SLURM_JOB_ID"]
    found = subprocess.run(["squeue", "--noheader", f"--jobs={job}", "--format=%T"], capture_output=True, text=True)
    state = found.stdout.strip()
    if state == "RUNNING":
        refused = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True).stderr.strip()
        print(f"patchscale: job {job} " + (f"not requeued: {refused}" if refused else "requeued"), flush=True)
    else:
        print(f"patchscale: job {job} is {state or 'unknown'} to Slurm, so not requeued from here", flush=True)


def _first_host() -> str:
    names = os.environ["SLURM_JOB_NODELIST"]
    return subprocess.run(
        ["scontrol", "show", "hostnames", names], capture_output=True, text=True, check=True
    ).stdout.split()[0]
