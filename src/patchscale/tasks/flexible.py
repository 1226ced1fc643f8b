"""Classification by one model at many patch sizes, beside one model for each patch size.

Under protocol `one_for_all` each batch is cut into patches of a size drawn for it, and the weights, kept at the model's
own patch size, are resized on the fly; the test set is measured at every size ("FlexiViT", section 3). Under `one_each`
the task is plain classification at the model's patch size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, model_validator
from torch import Tensor, nn

from patchscale.data import DataSpec
from patchscale.models.flexible import AtPatchSize
from patchscale.tasks import classification
from patchscale.tasks.classification import Classification, Measured
from patchscale.tasks.task import Autocast, Batch, ModelSpec, Regularisation
from patchscale.tokens import grid_size


class Options(BaseModel):
    """Which patch sizes, and how they share a model."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: Literal["one_each", "one_for_all"] = "one_for_all"
    patch_sizes: tuple[int, ...] = ()
    """Under `one_for_all`: the sizes that batches draw from and that are measured."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Options:
        if self.protocol == "one_for_all" and not self.patch_sizes:
            raise ValueError("protocol one_for_all needs patch_sizes, such as [16, 8, 4]")
        if len(set(self.patch_sizes)) < len(self.patch_sizes):
            raise ValueError(f"patch_sizes {list(self.patch_sizes)} names a size twice")
        return self

    def sizes(self, spec: ModelSpec) -> tuple[int, ...]:
        """Patch sizes that a model is trained and measured at."""
        return self.patch_sizes if self.protocol == "one_for_all" else (spec.patch_size,)


class FlexibleClassification(Classification):
    """Classification at every patch size of the options."""

    Options = Options

    def __init__(self, model: ModelSpec, data: DataSpec, options: Options, regularisation: Regularisation) -> None:
        self.sizes, self.shared = options.sizes(model), options.protocol == "one_for_all"
        for size in self.sizes:
            grid_size(model.input_size, size)
        super().__init__(model, data, classification.Options(), regularisation)
        self.most_tokens = max(at_patch_size(model, size).tokens for size in self.sizes)

    @staticmethod
    def network(spec: ModelSpec, classes: int, options: BaseModel) -> nn.Module:
        """The encoder with a linear head, at the model's own patch size."""
        return Classification.network(spec, classes, classification.Options())

    @staticmethod
    def trained_specs(spec: ModelSpec, options: Options) -> list[ModelSpec]:
        """The model at each of its patch sizes, all equally likely in training."""
        return [at_patch_size(spec, size) for size in options.sizes(spec)]

    def batch(self, indices: Tensor, seed: int, rows: slice) -> Batch:
        """As in classification; targets are a pair of those and the batch's patch size, a function of the seed."""
        plain = super().batch(indices, seed, rows)
        return Batch(plain.inputs, (plain.targets, self.sizes[seed % len(self.sizes)]))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy at the batch's patch size."""
        targets, size = batch.targets
        return super().loss(AtPatchSize(model, size), Batch(batch.inputs, targets))

    def measure(
        self, model: nn.Module, device: torch.device, autocast: Autocast, indices: Tensor
    ) -> dict[int, Measured]:
        """By patch size."""
        measured = {}
        for size in self.sizes:
            measured[size] = super().measure(AtPatchSize(model, size), device, autocast, indices)
        return measured

    def scores(self, parts: Sequence[dict[int, Measured]]) -> dict[str, float]:
        """Means over the patch sizes, and under `one_for_all` each score at size p with `_p<p>` behind its name."""
        found = {}
        for size in self.sizes:
            found[size] = super().scores([part[size] for part in parts])
        names = next(iter(found.values()))
        means = {name: sum(scores[name] for scores in found.values()) / len(found) for name in names}
        each = {f"{name}_p{size}": value for size, scores in found.items() for name, value in scores.items()}
        return means | each if self.shared else means


def at_patch_size(spec: ModelSpec, patch_size: int) -> ModelSpec:
    """The same model at another patch size."""
    return spec.model_copy(update={"patch_size": patch_size})
