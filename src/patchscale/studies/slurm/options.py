"""What a user asks of Slurm, `--slurm key=value` by `--slurm key=value`, and what of it a machine must have."""

from __future__ import annotations

import shutil
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from patchscale.errors import InputError
from patchscale.studies.clear_errors import clear_errors

COMMANDS = ("sbatch", "srun", "squeue", "scontrol")
OURS = ("array", "error", "job-name", "open-mode", "output", "requeue", "signal", "wrap")
"""Options of sbatch that the launcher sets itself."""


class SlurmOptions(BaseModel):
    """Resources of one trial, and any other option of sbatch as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    nodes: int = Field(default=1, ge=1)
    gpus: int = Field(default=0, ge=0)
    """Per node."""
    processes: int = Field(default=0, ge=0)
    """Per node; 0: one per GPU, or one."""
    cpus: int = Field(default=1, ge=1)
    """Per process: its threads."""
    save_seconds: int = Field(default=120, ge=1)
    """So long before its time limit a job saves and goes back into the queue."""
    other: dict[str, str] = {}
    """Further options of sbatch, such as partition, time, mem, account, constraint."""

    @property
    def processes_per_node(self) -> int:
        return self.processes or max(1, self.gpus)

    def sbatch(self) -> dict[str, Any]:
        """Options of sbatch by name."""
        gpus = {"gpus-per-node": self.gpus} if self.gpus else {}
        return {**gpus, **self.other, "signal": f"USR1@{self.save_seconds}", "requeue": True}


def parse_options(settings: list[str]) -> SlurmOptions:
    """Options from `key=value` lines.

    Raises:
        InputError: a line that is not key=value, a value that does not fit, an option that is the launcher's own.
    """
    found: dict[str, Any] = {"other": {}}
    for setting in settings:
        key, equals, value = setting.partition("=")
        key = key.strip().removeprefix("--").replace("_", "-")
        if not equals or not key or not value:
            raise InputError(f"--slurm {setting!r} is not key=value, as in --slurm partition=gpu")
        if key in OURS:
            raise InputError(f"--slurm {key} is set by the launcher; leave it out")
        field = key.replace("-", "_")
        known = field in SlurmOptions.model_fields and field != "other"
        (found if known else found["other"])[field if known else key] = value
    with clear_errors("--slurm"):
        return SlurmOptions.model_validate(found)


def require_slurm() -> None:
    """Refuses where trials cannot be submitted.

    Raises:
        InputError: submitit or a command of Slurm is missing.
    """
    try:
        import submitit  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError("--launcher slurm needs submitit; pip install 'patchscale[slurm]'") from error
    missing = [name for name in COMMANDS if shutil.which(name) is None]
    if missing:
        raise InputError(
            f"--launcher slurm: {', '.join(missing)} not found; start it where Slurm's commands are, such as a "
            "cluster's login node, or use --launcher local"
        )
