"""The seam between training and what is trained: `ModelSpec` names the encoder, `Task` is all the loop may ask for.

Shape letters: B batch, C channels.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Tensor, nn

from patchscale.data import Augment, DataSpec, Mixing
from patchscale.errors import InputError
from patchscale.models.deit import Positions

Autocast = Callable[[], AbstractContextManager]


class ModelSpec(BaseModel):
    """An encoder and the token grid it works on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """A registered model, as `timm.create_model` takes it."""
    patch_size: int = Field(strict=True)
    """Side of a square patch in pixels; 1 makes every pixel a token."""
    input_size: tuple[int, int]
    """Height and width in pixels; one number means a square, and `160x224` is height x width."""
    positions: Positions = "learned"
    """`learned`, or `sincos` (fixed two-dimensional sine and cosine)."""
    drop_path: float = 0.0
    """Stochastic depth rate of the last block."""
    options: dict[str, Any] = {}
    """Anything else that the model's constructor takes, such as `depth` or `embed_dim`."""

    @field_validator("input_size", mode="before")
    @classmethod
    def _square(cls, value: Any) -> Any:
        if isinstance(value, str) and "x" in value:
            return tuple(value.split("x"))
        return (value, value) if isinstance(value, int | str) else value

    @property
    def size(self) -> int | str:
        """The input size as tables have it: 32, or `160x224` (height x width)."""
        height, width = self.input_size
        return height if height == width else f"{height}x{width}"

    @property
    def tokens(self) -> int:
        """Tokens of one image, the class token not counted."""
        return (self.input_size[0] // self.patch_size) * (self.input_size[1] // self.patch_size)


class Task(Protocol):
    """What the training loop needs of a task."""

    train_size: int
    decodes: bool
    """Whether training images are decoded as they are read, which is worth doing ahead."""
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Of the training images, per channel, on a scale of 0 to 1."""

    def build_model(self) -> nn.Module:
        """The model, its weights drawn from torch's global generator."""
        ...

    def batch(self, indices: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Augmented inputs and targets of training samples [B]; a pure function of both arguments."""
        ...

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        """Mean training loss of a batch."""
        ...

    def evaluate(self, model: nn.Module, device: torch.device, autocast: Autocast) -> dict[str, float]:
        """Metrics over the whole test set, every sample once; `test_loss` is always among them."""
        ...


def build_task(
    name: str, model: ModelSpec, data: DataSpec, *, augment: Augment, mixing: Mixing, label_smoothing: float
) -> Task:
    """The task called `name`.

    Raises:
        InputError: no such task, or model and data do not fit each other.
    """
    from patchscale.tasks.classification import Classification

    if name == "classification":
        return Classification(model, data, augment=augment, mixing=mixing, label_smoothing=label_smoothing)
    raise InputError(f"unknown task {name!r}; use classification")
