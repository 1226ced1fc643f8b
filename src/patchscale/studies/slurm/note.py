"""Which job has a trial: `job.json` in the trial's folder, written before its array is submitted and again after.

With the intention on disk first, a launcher that dies around the submission finds the array again by its name.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class JobNote(BaseModel):
    """One trial's place in the last submission that names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """Job name of the submission, used by no other."""
    index: int
    """The trial's place in the array."""
    size: int
    """Trials in the array; one alone is submitted as a plain job."""
    step: int
    """Where the trial stood when it was submitted."""
    submitted: str
    array: str | None = None
    """Slurm's number of the array; none while the submission is under way."""
    ended: str | None = None
    """Slurm's word for how the job ended, where it ended without a result."""

    @property
    def job(self) -> str:
        """The job's name in Slurm's own words, such as 17_3."""
        assert self.array is not None
        return self.array if self.size == 1 else f"{self.array}_{self.index}"
