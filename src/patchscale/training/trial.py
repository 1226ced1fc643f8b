"""One point of a study, fully resolved: what is trained, on what, how, from which random seed; and its name."""

from __future__ import annotations

import hashlib
import json

from pydantic import BaseModel, ConfigDict, Field

from patchscale.data import DataSpec
from patchscale.tasks import ModelSpec
from patchscale.training.recipe import Recipe


class TrialConfig(BaseModel):
    """Everything that decides a trial's numbers, and nothing that does not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = "classification"
    model: ModelSpec
    data: DataSpec
    recipe: Recipe
    random_seed: int = Field(default=0, ge=0)
    evaluations: int = Field(default=6, ge=1)
    """Test points: after 1, 1/2, 1/4, ... of the steps."""

    @property
    def trial_id(self) -> str:
        """Twelve hexadecimal digits: the hash of the configuration, equal on every machine."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def evaluation_steps(self, steps: int) -> set[int]:
        """Steps after which the test set is evaluated."""
        return {max(1, steps >> halvings) for halvings in range(self.evaluations)}
