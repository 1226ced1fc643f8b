"""One point of a study, fully resolved: what is trained, on what, how, from which random seed; and its name."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from patchscale.data import DataSpec
from patchscale.tasks import TASKS, ModelSpec, task_class
from patchscale.training.init import Init
from patchscale.training.recipe import Recipe


class TrialConfig(BaseModel):
    """Everything that decides a trial's numbers, and nothing that does not."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    task: str = "classification"
    task_options: dict[str, Any] = {}
    """What the task leaves to choose, such as a decoder: fields of its `Options`."""
    model: ModelSpec
    data: DataSpec
    recipe: Recipe
    random_seed: int = Field(default=0, ge=0)
    evaluations: int = Field(default=6, ge=1)
    """Test points: after 1, 1/2, 1/4, ... of the steps."""
    init: Init | None = None
    """Weights to start from; random ones by default."""

    @field_validator("task")
    @classmethod
    def _known_task(cls, task: str) -> str:
        if task not in TASKS:
            raise ValueError(f"unknown task; use one of {', '.join(TASKS)}")
        return task

    @model_validator(mode="after")
    def _options_fit(self) -> TrialConfig:
        task_class(self.task).Options.model_validate(self.task_options)
        if self.task != "classification" and self.model.reduction:
            raise ValueError(f"task {self.task} needs every token and cannot take a reducer; leave model.reducer out")
        return self

    @property
    def trial_id(self) -> str:
        """Twelve hexadecimal digits: the hash of the configuration, equal on every machine.

        Values that are the defaults do not count, so that a field added later leaves the names of older trials alone;
        a default, once released, is never changed.
        """
        content = self.model_dump(mode="json", exclude_defaults=True)
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def evaluation_steps(self, steps: int) -> set[int]:
        """Steps after which the test set is evaluated."""
        return {max(1, steps >> halvings) for halvings in range(self.evaluations)}
