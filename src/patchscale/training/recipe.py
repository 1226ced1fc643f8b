"""Everything of training that is not model, data or task, as one typed and frozen record."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from patchscale.data import Augment, Mixing
from patchscale.tasks import Regularisation

Precision = Literal["auto", "float32", "bfloat16"]

IN_OTHER_UNITS = {
    "steps": "epochs",
    "epochs": "steps",
    "warmup_steps": "warmup_epochs",
    "warmup_epochs": "warmup_steps",
}
"""Fields of a recipe that say the same: setting one removes the other."""


class Recipe(BaseModel):
    """How long, how fast and with which regularisation a model is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: int | None = Field(default=None, gt=0)
    """Optimiser updates; give this or `epochs`."""
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the training set; give this or `steps`."""
    batch_size: int = Field(default=128, gt=0)
    """Samples of one update."""
    accumulation: int = Field(default=1, gt=0)
    """Parts into which a process's share of a batch is split to save memory; the update is that of the whole batch."""
    recompute: bool = False
    """Whether the encoder's blocks are computed again in the backward pass to save memory (activation checkpointing);
    a third more time, the same update."""
    learning_rate: float = Field(default=1e-3, gt=0)
    """Peak of the schedule, as used (no hidden scaling)."""
    final_learning_rate: float = Field(default=1e-5, ge=0)
    """End of the cosine."""
    warmup_steps: int = Field(default=0, ge=0)
    """Updates of linear warm-up, counted among the steps; or give `warmup_epochs`."""
    warmup_epochs: float | None = Field(default=None, ge=0)
    """The same in passes over the training set."""
    weight_decay: float = Field(default=0.05, ge=0)
    """AdamW's decoupled decay; not applied to positions, class token and one-dimensional parameters."""
    betas: tuple[float, float] = (0.9, 0.999)
    layer_decay: float | None = Field(default=None, gt=0, le=1)
    """Factor on the learning rate from each block to the one below it."""
    clip_norm: float | None = Field(default=1.0, gt=0)
    """Largest norm of the whole gradient."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Decay of an exponential moving average of the weights, which is then what is evaluated; min(it, 1 - 1 / step)."""
    augment_repeats: int = Field(default=1, gt=0)
    """Views of an image that a batch holds, each augmented anew; an epoch stays as many samples as there are images."""
    augment: Augment = Augment()
    augmented: bool = True
    """Whether `augment` is applied, so that an axis can switch it off."""
    mixing: Mixing = Mixing()
    precision: Precision = "auto"
    """`auto` is settled by measuring, once for a whole study, before the first trial starts."""

    @model_validator(mode="after")
    def _one_length(self) -> Recipe:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("give either steps or epochs")
        if self.steps is not None and self.steps <= self.warmup_steps:
            raise ValueError(f"warmup_steps {self.warmup_steps} leaves nothing of {self.steps} steps; lower it")
        if self.warmup_epochs is not None and self.warmup_steps:
            raise ValueError("give either warmup_steps or warmup_epochs")
        if None not in (self.epochs, self.warmup_epochs) and self.epochs <= self.warmup_epochs:  # type: ignore
            raise ValueError(f"warmup_epochs {self.warmup_epochs:g} leaves nothing of {self.epochs:g} epochs; lower it")
        return self

    @property
    def regularisation(self) -> Regularisation:
        """What a task is told of the recipe."""
        return Regularisation(self.augment if self.augmented else Augment(), self.mixing, self.label_smoothing)

    def total_steps(self, train_size: int) -> int:
        """Updates for a training set of `train_size` samples."""
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return max(1, round(self.epochs * train_size / self.batch_size))

    def total_warmup_steps(self, train_size: int) -> int:
        """Updates of warm-up among them."""
        if self.warmup_epochs is None:
            return self.warmup_steps
        return round(self.warmup_epochs * train_size / self.batch_size)
