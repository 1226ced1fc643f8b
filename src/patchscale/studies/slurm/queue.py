"""What Slurm says of jobs: one `squeue` for all of them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from typing import Literal, NamedTuple

QUEUED = {"PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT", "SUSPENDED"}
RUNNING = {"RUNNING", "COMPLETING", "CONFIGURING", "RESIZING", "SIGNALING", "STAGE_OUT", "STOPPED"}
GONE = "UNKNOWN"
"""Our word for a job that Slurm has forgotten, which it does minutes after an end."""
SECONDS = 60


class Job(NamedTuple):
    """One job as Slurm sees it."""

    state: str
    reason: str = ""
    """Why it waits."""

    @property
    def phase(self) -> Literal["queued", "running", "cancelled", "ended"]:
        if self.state in QUEUED:
            return "queued"
        if self.state in RUNNING:
            return "running"
        return "cancelled" if self.state == "CANCELLED" else "ended"


def read_queue(arrays: Iterable[str]) -> dict[str, Job] | None:
    """Jobs of these arrays by name, such as `17_3`; those long ended are missing.

    Returns:
        None if Slurm does not answer: then nothing is known.
    """
    named = ",".join(sorted(set(arrays)))
    if not named:
        return {}
    done = _squeue("--array", "--states=all", "--format=%i|%T|%r", f"--jobs={named}")
    if done is None:
        return None
    if done.returncode:
        return {} if "Invalid job id" in done.stderr else None
    rows = (line.split("|", 2) for line in done.stdout.splitlines())
    return {job: Job(state, reason) for job, state, reason in rows}


def find_array(name: str) -> str | None:
    """The number of the array that was submitted under a name, if Slurm still knows it."""
    done = _squeue("--array", "--states=all", "--format=%F", f"--name={name}")
    numbers = done.stdout.split() if done and not done.returncode else []
    return numbers[0] if numbers else None


def _squeue(*words: str) -> subprocess.CompletedProcess[str] | None:
    try:
        return subprocess.run(["squeue", "--noheader", *words], capture_output=True, text=True, timeout=SECONDS)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return None
