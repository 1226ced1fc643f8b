"""Image classification: cross-entropy against (possibly mixed) labels; test loss and accuracy over every sample once.

Shape letters: B batch, C channels, K classes.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchscale import data as datasets
from patchscale import models
from patchscale.data import Augment, DataSpec, Mixing, normalise
from patchscale.tasks.task import Autocast, ModelSpec

EVALUATION_BATCH = 256


class Classification:
    """Classification of a data set's images by one encoder with a linear head."""

    def __init__(
        self,
        model: ModelSpec,
        data: DataSpec,
        *,
        augment: Augment,
        mixing: Mixing,
        label_smoothing: float,
    ) -> None:
        self.spec = model
        self.augment, self.mixing, self.label_smoothing = augment, mixing, label_smoothing
        self.train_set = datasets.load(data, split="train", input_size=model.input_size)
        self.test_set = datasets.load(data, split="test", input_size=model.input_size)
        self.classes = self.train_set.classes
        self.train_size, self.decodes = len(self.train_set), not self.train_set.in_memory
        self.mean, self.std = self.train_set.mean, self.train_set.std

    def build_model(self) -> nn.Module:
        spec = self.spec
        return models.create(
            spec.name,
            input_size=spec.input_size,
            patch_size=spec.patch_size,
            num_classes=len(self.classes),
            positions=spec.positions,
            drop_path=spec.drop_path,
            **spec.options,
        )

    def batch(self, indices: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Inputs float32 [B, C, height, width] and targets float32 [B, K] that sum to one."""
        generator = torch.Generator().manual_seed(seed)
        images = self.augment(self.train_set.read(indices, crop_seed=seed), generator)
        inputs = normalise(images, self.mean, self.std)
        return self.mixing(inputs, self.train_set.labels[indices], len(self.classes), generator)

    def loss(self, model: nn.Module, inputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(model(inputs).float(), targets, label_smoothing=self.label_smoothing)

    @torch.no_grad()
    def evaluate(self, model: nn.Module, device: torch.device, autocast: Autocast) -> dict[str, float]:
        """`test_loss` (mean cross-entropy, nats), `top1` and `top5` (fractions): sums over all, then one division."""
        was_training = model.training
        model.eval()
        loss, top1, top5 = 0.0, 0, 0
        total = len(self.test_set)
        for indices in torch.arange(total).split(self._evaluation_batch()):
            images = self.test_set.read(indices).to(device)
            labels = self.test_set.labels[indices].to(device)
            with autocast():
                logits = model(normalise(images, self.mean, self.std))
            logits = logits.float()
            loss += F.cross_entropy(logits, labels, reduction="none").double().sum().item()
            best = logits.topk(min(5, logits.shape[1]), dim=1).indices == labels[:, None]
            top1 += int(best[:, :1].sum())
            top5 += int(best.sum())
        model.train(was_training)
        return {"test_loss": loss / total, "top1": top1 / total, "top5": top5 / total}

    def _evaluation_batch(self) -> int:
        """Fewer images at a time when each has many tokens; without gradients, that needs less memory than training."""
        return max(8, min(EVALUATION_BATCH, 65_536 // self.spec.tokens))
