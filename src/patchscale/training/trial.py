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


class Stage(BaseModel):
    """One training that comes before a trial's own; what it does not name is the trial's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")
    task: str = "classification"
    task_options: dict[str, Any] = {}
    model: dict[str, Any] = {}
    """Fields of `ModelSpec` that differ from the trial's, such as `input_size` and `drop_path`; another `patch_size`
    has the patch embedding resized on the way to the next stage."""
    recipe: Recipe


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
    even_evaluations: int = Field(default=0, ge=0)
    """Further test points, evenly spaced to the end: they show a test loss that rises on the way."""
    init: Init | None = None
    """Weights to start from; random ones by default."""
    stages: tuple[Stage, ...] = ()
    """Trainings before this one, each from the weights of the one before it; the first starts from `init`."""

    @field_validator("task")
    @classmethod
    def _known_task(cls, task: str) -> str:
        if task not in TASKS:
            raise ValueError(f"unknown task; use one of {', '.join(TASKS)}")
        return task

    @model_validator(mode="after")
    def _options_fit(self) -> TrialConfig:
        task_class(self.task).Options.model_validate(self.task_options)
        return self

    @model_validator(mode="after")
    def _encoder_fits(self) -> TrialConfig:
        if self.task != "classification" and self.model.brings_reducer:
            raise ValueError(f"task {self.task} needs every token; {self.model.name} reduces them, use a deit model")
        if self.task != "classification" and self.model.reduction:
            raise ValueError(f"task {self.task} needs every token and cannot take a reducer; leave model.reducer out")
        if self.task not in ("classification", "segmentation") and self.model.sequence_extension != 1:
            raise ValueError(
                f"task {self.task} goes by the grid of the patches; leave out model.sequence_extension "
                f"{self.model.sequence_extension}"
            )
        return self

    @model_validator(mode="after")
    def _stages_fit(self) -> TrialConfig:
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError(f"stages name {max(names, key=names.count)!r} twice; give each its own name")
        self.plain()
        return self

    def plain(self) -> list[TrialConfig]:
        """The trainings that make up this trial, in order, each as a trial without stages; the last is its own.

        Only the first has the trial's `init`: the others start from weights that do not exist yet.
        """
        own = self.model_copy(update={"stages": (), "init": None})
        trials = [
            TrialConfig.model_validate(
                own.model_dump()
                | {"task": stage.task, "task_options": stage.task_options, "recipe": self._settled(stage.recipe)}
                | {"model": own.model.model_dump() | stage.model}
            )
            for stage in self.stages
        ]
        trials.append(own)
        return [trials[0].model_copy(update={"init": self.init}), *trials[1:]]

    def _settled(self, recipe: Recipe) -> Recipe:
        """All stages train in the trial's number format where their recipe leaves it open."""
        return recipe.model_copy(update={"precision": self.recipe.precision}) if recipe.precision == "auto" else recipe

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
        even = {max(1, steps * part // self.even_evaluations) for part in range(1, self.even_evaluations + 1)}
        return {max(1, steps >> halvings) for halvings in range(self.evaluations)} | even
