"""The seam between training and what is trained: `ModelSpec` names the encoder, `Task` is all the loop may ask for.

Shape letters: B batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, NamedTuple, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
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
    sequence_extension: int = Field(default=1, ge=1)
    """Tokens interpolated to so many times the rows and columns: a longer sequence without new information."""
    reducer: str = "none"
    """What keeps fewer tokens: one of `patchscale.tokens.reducers.REDUCERS`, or `none`."""
    kept_tokens: int | None = Field(default=None, gt=0)
    """Tokens that the reducer leaves, the class token not counted; all by default."""
    nested: tuple[int, ...] = ()
    """Numbers of kept tokens of which each training batch draws one; the test scores then have them all. None is above
    `kept_tokens`. Without a reducer nothing is drawn."""
    reducer_options: dict[str, Any] = {}
    """Anything else about the reducer, such as `before` (the block that sees fewer tokens) or `tolerance`."""
    options: dict[str, Any] = {}
    """Anything else that the model's constructor takes, such as `depth` or `embed_dim`."""

    @field_validator("input_size", mode="before")
    @classmethod
    def _square(cls, value: Any) -> Any:
        if isinstance(value, str) and "x" in value:
            return tuple(value.split("x"))
        return (value, value) if isinstance(value, int | str) else value

    @model_validator(mode="after")
    def _nested_fit(self) -> ModelSpec:
        if not self.nested:
            return self
        most = self.kept_tokens or self.tokens
        if wrong := [kept for kept in self.nested if not 1 <= kept <= most]:
            raise ValueError(f"nested {wrong[0]} is not between 1 and the {most} kept tokens; raise kept_tokens")
        if len(set(self.nested)) < len(self.nested):
            raise ValueError(f"nested {list(self.nested)} names a number twice")
        return self

    @property
    def counts(self) -> tuple[int, ...]:
        """Numbers of kept tokens that one model serves; empty where it always keeps as many."""
        return () if self.reducer == "none" else self.nested

    def keeping(self, kept_tokens: int) -> ModelSpec:
        """The model that serves one number of kept tokens alone."""
        return self.model_copy(update={"kept_tokens": kept_tokens, "nested": ()})

    @property
    def size(self) -> int | str:
        """The input size as tables have it: 32, or `160x224` (height x width)."""
        height, width = self.input_size
        return height if height == width else f"{height}x{width}"

    @property
    def tokens(self) -> int:
        """Tokens of one image, the class token not counted."""
        patches = (self.input_size[0] // self.patch_size) * (self.input_size[1] // self.patch_size)
        return patches * self.sequence_extension**2

    @property
    def arguments(self) -> dict[str, Any]:
        """What `models.create` takes besides the name and the number of classes."""
        extension = {} if self.sequence_extension == 1 else {"sequence_extension": self.sequence_extension}
        return {
            "input_size": self.input_size,
            "patch_size": self.patch_size,
            "positions": self.positions,
            "drop_path": self.drop_path,
            **extension,
            **self.reduction,
            **self.options,
        }

    @property
    def brings_reducer(self) -> bool:
        """Whether the model reduces tokens by itself, to 64 where `kept_tokens` does not say."""
        return self.name.startswith("lct_vit_")

    @property
    def reduction(self) -> dict[str, Any]:
        """The arguments of `models.create` that reduce tokens; empty where all are kept.

        Raises:
            InputError: fewer tokens to keep, but nothing that reduces them.
        """
        kept = {} if self.kept_tokens is None else {"kept_tokens": self.kept_tokens}
        if self.brings_reducer:
            return kept
        everything = self.kept_tokens in (None, self.tokens)
        if self.reducer == "none":
            if not everything:
                raise InputError(f"kept_tokens {self.kept_tokens} of {self.tokens} needs a reducer; name one")
            return {}
        if everything and not self.nested and "tolerance" not in self.reducer_options:
            return {}
        return {
            "reducer": self.reducer,
            "kept_tokens": self.kept_tokens or self.tokens,
            "reducer_options": self.reducer_options,
        }


class Regularisation(NamedTuple):
    """What a recipe does to training samples and targets; none by default."""

    augment: Augment = Augment()
    mixing: Mixing = Mixing()
    label_smoothing: float = 0.0


@dataclass(frozen=True)
class Batch:
    """Samples as a task prepared them; only the task looks inside.

    Attributes:
        inputs: what the model takes, one entry a sample: a tensor [B, ...] or a sequence.
        targets: what the loss compares with: tensors, or lists, tuples and mappings of them.
    """

    inputs: Any
    targets: Any

    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device: torch.device) -> Batch:
        """The same batch with every tensor on `device`."""
        return self._changed(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> Batch:
        """The same batch in page-locked memory, whose copies to a GPU do not wait."""
        return self._changed(Tensor.pin_memory)

    def _changed(self, change: Callable[[Tensor], Tensor]) -> Batch:
        return Batch(_changed(self.inputs, change), _changed(self.targets, change))


class Trained(NamedTuple):
    """A trained model in evaluation mode and what its use needs to know of its trial."""

    model: nn.Module
    spec: ModelSpec
    data: DataSpec
    options: dict[str, Any]
    """Of the task."""
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class Predicted(NamedTuple):
    """What a model says of a user's images."""

    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    """One per class or object, with these columns."""
    lines: list[str]
    """The same in short, for people."""


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, list | tuple):
        return type(value)(_changed(part, change) for part in value)
    if isinstance(value, dict):
        return {key: _changed(part, change) for key, part in value.items()}
    return value


class Task(Protocol):
    """What the training loop needs of a task, which is built of the four arguments of `build_task`.

    A task whose model is more than the encoder with its linear head may also have

    - `head_cost(spec, classes, options)`, static: parameters and forward FLOPs of an image beyond the encoder;
    - `encoder_tokens(spec, options)`, static: tokens that the encoder's blocks see of an image, where not all;
    - `trained_specs(spec, options)`, static: the specs among which training batches are spread evenly, where several;
    - `illustrate(model, device, autocast, folder)`: writes pictures of some test samples when a trial is finished;
    - `predict(trained, paths, out, device)`, static: says what it sees in a user's own images, and draws it.
    """

    test_size: int
    decodes: bool
    """Whether training images are decoded as they are read, which is worth doing ahead."""
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    """Of the training images, per channel, on a scale of 0 to 1."""

    @property
    def train_size(self) -> int:
        """Training samples."""
        ...

    @staticmethod
    def network(spec: ModelSpec, classes: int, options: Any) -> nn.Module:
        """The model for data of so many classes, its weights drawn from torch's global generator."""
        ...

    def build_model(self) -> nn.Module:
        """`network` for the task's own data."""
        ...

    def encoder(self, model: nn.Module) -> nn.Module:
        """The part of `model` that takes the weights of another trial's encoder."""
        ...

    def batch(self, indices: Tensor, seed: int, rows: slice) -> Batch:
        """Rows of the augmented batch of training samples `indices` [B].

        A pure function of its arguments; the parts of a batch, however it is divided, are those of the whole.
        """
        ...

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Training loss of a batch, a mean over its samples: parts weighted by their share give the whole's."""
        ...

    def measure(self, model: nn.Module, device: torch.device, autocast: Autocast, indices: Tensor) -> Any:
        """What test samples `indices` contribute to the scores; the model is in evaluation mode."""
        ...

    def scores(self, parts: Sequence[Any]) -> dict[str, float]:
        """Metrics of measured parts that hold every test sample once; `test_loss` is always among them.

        How the samples were divided into parts does not change a digit.
        """
        ...


@torch.no_grad()
def evaluate(task: Task, model: nn.Module, device: torch.device, autocast: Autocast) -> dict[str, float]:
    """Scores over the whole test set, every sample once, in this process."""
    was_training = model.training
    model.eval()
    part = task.measure(model, device, autocast, torch.arange(task.test_size))
    model.train(was_training)
    return task.scores([part])


TASKS = {
    "captioning": "patchscale.tasks.captioning:Captioning",
    "classification": "patchscale.tasks.classification:Classification",
    "detection": "patchscale.tasks.detection:Detection",
    "flexible_classification": "patchscale.tasks.flexible:FlexibleClassification",
    "masked": "patchscale.tasks.masked:Masked",
    "segmentation": "patchscale.tasks.segmentation:Segmentation",
}
"""Every task by name; its class is imported when it is first asked for."""


def task_class(name: str) -> Any:
    """The class of the task called `name`; its `Options` is the pydantic model of what can be set about it.

    Raises:
        InputError: no such task.
    """
    if name not in TASKS:
        raise InputError(f"unknown task {name!r}; use one of {', '.join(TASKS)}")
    module, kind = TASKS[name].split(":")
    return getattr(import_module(module), kind)


def build_task(
    name: str, model: ModelSpec, data: DataSpec, options: dict[str, Any], regularisation: Regularisation
) -> Task:
    """The task called `name` with its data loaded.

    Raises:
        InputError: no such task, or model, data and options do not fit each other.
    """
    kind = task_class(name)
    return kind(model, data, kind.Options.model_validate(options), regularisation)


def build_network(name: str, model: ModelSpec, classes: int, options: dict[str, Any]) -> nn.Module:
    """The model of the task called `name`, without its data; for weights that were trained before.

    Raises:
        InputError: no such task, or model and options do not fit each other.
    """
    kind = task_class(name)
    return kind.network(model, classes, kind.Options.model_validate(options))
