"""Image classification: cross-entropy against (possibly mixed) labels; test loss and accuracy over every sample once.

Shape letters: B batch, C channels, K classes, n measured samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import zip_longest
from typing import NamedTuple

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from patchscale import data as datasets
from patchscale import models
from patchscale.data import Crop, DataSpec, Draws, normalise, whole_pairs
from patchscale.errors import InputError
from patchscale.models.reduction import keeping
from patchscale.tasks.task import Autocast, Batch, ModelSpec, Regularisation
from patchscale.tokens.reducers import auxiliary_loss

EVALUATION_BATCH = 256


class Options(BaseModel):
    """Classification leaves nothing to choose."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Measured(NamedTuple):
    """Test samples, one by one."""

    indices: Tensor
    """int64 [n]."""
    losses: Tensor
    """Cross-entropy in nats, float32 [n]."""
    ranks: Tensor
    """Classes that scored above the true one, int64 [n]."""
    nested: dict[int, Measured] = {}  # noqa: RUF012
    """The same by number of kept tokens, where one model serves several."""


class Classification:
    """Classification of a data set's images by one encoder with a linear head."""

    Options = Options

    def __init__(self, model: ModelSpec, data: DataSpec, options: Options, regularisation: Regularisation) -> None:
        self.spec, self.options, self.regularisation = model, options, regularisation
        self.train_set = datasets.load(data, split="train", input_size=model.input_size)
        self.test_set = datasets.load(data, split="test", input_size=model.input_size)
        self.classes = self.train_set.classes
        _check_classes(data.name, self.classes, self.test_set.classes)
        self.train_size, self.test_size = len(self.train_set), len(self.test_set)
        self.decodes = not self.train_set.in_memory
        self.most_tokens = model.tokens
        self.mean, self.std = self.train_set.mean, self.train_set.std

    @staticmethod
    def network(spec: ModelSpec, classes: int, options: Options) -> nn.Module:
        """The encoder with a linear head."""
        return models.create(spec.name, num_classes=classes, **spec.arguments)

    @staticmethod
    def trained_specs(spec: ModelSpec, options: BaseModel) -> list[ModelSpec]:
        """The model at each number of kept tokens, all equally likely in training."""
        return [spec.keeping(kept) for kept in spec.counts] or [spec]

    def build_model(self) -> nn.Module:
        """See `Task.build_model`."""
        return self.network(self.spec, len(self.classes), self.options)

    def encoder(self, model: nn.Module) -> nn.Module:
        """The whole model: a head of other classes stays fresh."""
        return model

    def batch(self, indices: Tensor, seed: int, rows: slice) -> Batch:
        """Inputs float32 [B, C, height, width] and targets float32 [B, K] that sum to one.

        Where one model serves several numbers of kept tokens, targets are a pair of those and the batch's number, a
        function of the seed.
        """
        generator = torch.Generator().manual_seed(seed)
        pairs = whole_pairs(rows, len(indices)) if self.regularisation.mixing.active else rows
        chosen = indices[pairs]
        augment = self.regularisation.augment
        crop = Crop(seed, pairs.indices(len(indices))[0], augment.crop_scale)
        images = augment(self.train_set.read(chosen, crop), Draws(generator, len(indices), pairs))
        inputs, targets = self.regularisation.mixing(
            normalise(images, self.mean, self.std), self.train_set.labels[chosen], len(self.classes), generator
        )
        start, stop, _ = rows.indices(len(indices))
        first = pairs.indices(len(indices))[0]
        inputs, targets = inputs[start - first : stop - first], targets[start - first : stop - first]
        counts = self.spec.counts
        return Batch(inputs, (targets, counts[seed % len(counts)]) if counts else targets)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy, smoothed as the recipe says, and what parts of the model ask for (`auxiliary_loss`)."""
        targets, kept = batch.targets if self.spec.counts else (batch.targets, None)
        with nullcontext() if kept is None else keeping(model, kept):
            logits = model(batch.inputs).float()
        own = F.cross_entropy(logits, targets, label_smoothing=self.regularisation.label_smoothing)
        return own + auxiliary_loss(model).to(own.device)

    def measure(self, model: nn.Module, device: torch.device, autocast: Autocast, indices: Tensor) -> Measured:
        """See `Task.measure`."""
        nested = {}
        for kept in self.spec.counts:
            with keeping(model, kept):
                nested[kept] = self._measured(model, device, autocast, indices)
        own = nested.get(self.spec.kept_tokens or self.spec.tokens)
        return (own or self._measured(model, device, autocast, indices))._replace(nested=nested)

    def _measured(self, model: nn.Module, device: torch.device, autocast: Autocast, indices: Tensor) -> Measured:
        losses, ranks = [], []
        for chosen in indices.split(self._evaluation_batch()):
            images = self.test_set.read(chosen).to(device)
            labels = self.test_set.labels[chosen].to(device)
            with autocast():
                logits = model(normalise(images, self.mean, self.std))
            logits = logits.float()
            losses.append(F.cross_entropy(logits, labels, reduction="none").cpu())
            ranks.append(_ranks(logits, labels).cpu())
        return Measured(indices, torch.cat(losses), torch.cat(ranks))

    def scores(self, parts: Sequence[Measured]) -> dict[str, float]:
        """`test_loss` (mean cross-entropy, nats), `top1` and `top5` (fractions).

        A model that serves several numbers of kept tokens K also has each with `_k<K>` behind its name.
        """
        found = _scores(parts)
        for kept in self.spec.counts:
            found |= {f"{name}_k{kept}": v for name, v in _scores([part.nested[kept] for part in parts]).items()}
        return found

    def _evaluation_batch(self) -> int:
        """Fewer images at a time when each has many tokens; without gradients, that needs less memory than training."""
        return max(8, min(EVALUATION_BATCH, 65_536 // self.most_tokens))


def _check_classes(name: str, train: Sequence[str], test: Sequence[str]) -> None:
    """Raises InputError for a label that is another class in the test images; of numbered ones the last may lack."""
    for label, (ours, theirs) in enumerate(zip_longest(train, test)):
        if theirs not in (ours, None):
            raise InputError(
                f"{name}: label {label} is the class {theirs!r} in the test images and "
                f"{'no class' if ours is None else repr(ours)} in the training images; give both the same classes"
            )


def _scores(parts: Sequence[Measured]) -> dict[str, float]:
    order = torch.cat([part.indices for part in parts]).argsort()
    losses = torch.cat([part.losses for part in parts])[order].double()
    ranks = torch.cat([part.ranks for part in parts])
    hits = {f"top{k}": (ranks < k).double().mean().item() for k in (1, 5)}
    return {"test_loss": losses.mean().item(), **hits}


def _ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """Classes before the true one, int64 [n], in order of falling logits [n, K]; of equal ones, the first counts."""
    own = logits.gather(1, labels[:, None])
    earlier = torch.arange(logits.shape[1], device=logits.device) < labels[:, None]
    return ((logits > own) | ((logits == own) & earlier)).sum(1)
