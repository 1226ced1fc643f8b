"""Semantic segmentation: cross-entropy of every counted pixel; test loss per pixel, scores from one table of counts.

Shape letters: B batch, H height, W width, K classes, n measured samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from patchscale.data import DataSpec, Draws, normalise
from patchscale.data.masks import IGNORED, MaskSet, flip, load_masks, scale_crops
from patchscale.data.transforms import color_jitter
from patchscale.errors import InputError
from patchscale.tasks.refuse import refuse_unfit
from patchscale.tasks.segmentation.confusion import confusion, mean_scores
from patchscale.tasks.segmentation.inference import logits_at
from patchscale.tasks.segmentation.model import Segmenter
from patchscale.tasks.segmentation.options import Options
from patchscale.tasks.segmentation.pictures import write_predictions
from patchscale.tasks.segmentation.predict import predict
from patchscale.tasks.task import Autocast, Batch, ModelSpec, Predicted, Regularisation, Trained, evaluate


class Measured(NamedTuple):
    """Test samples, one by one, and all their pixels counted."""

    indices: Tensor
    """int64 [n]."""
    losses: Tensor
    """Sum of the cross-entropy over counted pixels in nats, float64 [n]."""
    table: Tensor
    """int64 [K, K]; see `confusion`."""


class Segmentation:
    """A class for every pixel of a data set's images."""

    Options = Options

    def __init__(self, model: ModelSpec, data: DataSpec, options: Options, regularisation: Regularisation) -> None:
        refuse_unfit(regularisation, "segmentation", augment=("horizontal_flip", "color_jitter"), label_smoothing=True)
        self.spec, self.data, self.options, self.regularisation = model, data, options, regularisation
        self.test_set = load_masks(data, "test", model.input_size)
        self.classes, self.test_size = self.test_set.classes, len(self.test_set)
        self.mean, self.std = self.test_set.mean, self.test_set.std
        self.decodes = True
        """Cutting and resizing is worth doing ahead even where images are held decoded."""
        self.table: Tensor | None = None
        """What the last scores were made of: the confusion table of the whole test set."""

    @cached_property
    def train_set(self) -> MaskSet:
        """Loaded when it is first asked for: evaluation does without."""
        return load_masks(self.data, "train", self.spec.input_size)

    @property
    def train_size(self) -> int:
        return len(self.train_set)

    @staticmethod
    def network(spec: ModelSpec, classes: int, options: Options) -> Segmenter:
        """Encoder and decoder.

        Raises:
            InputError: the encoder drops tokens, so that places are left without any.
        """
        if spec.reducer != "none":
            raise InputError(f"model.reducer {spec.reducer!r} leaves places without a token; segmentation needs all")
        return Segmenter(
            spec.name,
            num_classes=classes,
            decoder=options.decoder,
            channels=options.channels,
            auxiliary=options.auxiliary > 0,
            **spec.arguments,
        )

    def build_model(self) -> Segmenter:
        """See `Task.build_model`."""
        return self.network(self.spec, len(self.classes), self.options)

    def encoder(self, model: nn.Module) -> nn.Module:
        """See `Task.encoder`."""
        return model.encoder  # pyright: ignore[reportReturnType]

    def batch(self, indices: Tensor, seed: int, rows: slice) -> Batch:
        """Inputs float32 [B, 3, H, W] and targets uint8 [B, H, W]: random crops, mirrored, colours changed."""
        draws = Draws(torch.Generator().manual_seed(seed), len(indices), rows)
        augment = self.regularisation.augment
        images, masks = scale_crops(
            self.train_set.read(indices[rows]),
            self.spec.input_size,
            draws,
            scale=self.options.scale,
            most_of_one_class=self.options.most_of_one_class,
            resample=self.train_set.resample,
            fill=_bytes(self.mean),
        )
        if augment.horizontal_flip:
            images, masks = flip(images, masks, draws.uniform(0, 1) < augment.horizontal_flip)
        if augment.color_jitter:
            images = color_jitter(images, augment.color_jitter, draws)
        return Batch(normalise(images, self.mean, self.std), masks)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy over counted pixels divided by all pixels, and the auxiliary head's by its weight.

        Dividing by all pixels makes a batch's loss the mean of its samples' losses, however it is divided.
        """
        logits, extra = model.forward_train(batch.inputs)  # pyright: ignore[reportCallIssue]
        loss = self._pixel_loss(logits, batch.targets)
        return loss if extra is None else loss + self.options.auxiliary * self._pixel_loss(extra, batch.targets)

    def measure(self, model: nn.Module, device: torch.device, autocast: Autocast, indices: Tensor) -> Measured:
        """See `Task.measure`; one image at a time, so that no digit depends on the division."""
        original = self.options.score_size == "original"
        table = torch.zeros(len(self.classes), len(self.classes), dtype=torch.int64)
        losses = []
        for index in indices.tolist():
            image, mask = self.test_set.test_view(index, original=original)
            truth = torch.from_numpy(mask.copy())[None].to(device)
            logits = self.logits(model, image, device, autocast, mask.shape)
            each = F.cross_entropy(logits, truth.long(), ignore_index=IGNORED, reduction="none")
            losses.append(each.double().sum().item())
            table += confusion(logits.argmax(1), truth, len(self.classes)).cpu()
        return Measured(indices, torch.tensor(losses, dtype=torch.float64), table)

    def scores(self, parts: Sequence[Measured]) -> dict[str, float]:
        """`test_loss` (mean cross-entropy of counted pixels, nats), `miou`, `mean_accuracy`, `pixel_accuracy`."""
        order = torch.cat([part.indices for part in parts]).argsort()
        losses = torch.cat([part.losses for part in parts])[order]
        self.table = torch.stack([part.table for part in parts]).sum(0)
        return {"test_loss": losses.sum().item() / max(1, int(self.table.sum())), **mean_scores(self.table)}

    def logits(
        self, model: nn.Module, image: np.ndarray, device: torch.device, autocast: Autocast, size: Sequence[int]
    ) -> Tensor:
        """Logits float32 [1, K, *size] of an image uint8 [h, w, 3]; the model is in evaluation mode."""
        pixels = torch.from_numpy(image.copy()).permute(2, 0, 1)[None].to(device)
        inputs, options = normalise(pixels, self.mean, self.std), self.options
        return logits_at(model, inputs, autocast, size, options.inference, options.slide_step)

    def illustrate(self, model: nn.Module, device: torch.device, autocast: Autocast, folder: Path) -> None:
        """Writes some test images with truth and prediction, and how every class was found, to `folder`."""
        if self.table is None:
            evaluate(self, model, device, autocast)  # a trial resumed after its last test point
        assert self.table is not None
        write_predictions(self, model, device, autocast, folder, self.table)

    @staticmethod
    def predict(trained: Trained, paths: list[Path], out: Path, device: torch.device) -> Predicted:
        """See `patchscale.tasks.segmentation.predict`."""
        return predict(trained, paths, out, device)

    @staticmethod
    def head_cost(spec: ModelSpec, classes: int, options: Options) -> tuple[int, int]:
        """Parameters and forward FLOPs of an image (a multiply-add as 2) beyond the encoder."""
        with torch.device("meta"), torch.no_grad():
            model = Segmentation.network(spec, classes, options)
            heads = [model.decoder] if model.auxiliary is None else [model.decoder, model.auxiliary]
            grid = [side // spec.patch_size * spec.sequence_extension for side in spec.input_size]
            features = [torch.empty(1, model.encoder.num_features, *grid) for _ in model.taps]
            with FlopCounterMode(display=False) as counter:
                for head in heads:
                    head(features)
        return sum(part.numel() for head in heads for part in head.parameters()), counter.get_total_flops()

    def _pixel_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        summed = F.cross_entropy(
            logits.float(),
            targets.long(),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=self.regularisation.label_smoothing,
        )
        return summed / targets.numel()


def _bytes(colour: Sequence[float]) -> tuple[int, int, int]:
    red, green, blue = (round(255 * value) for value in colour)
    return red, green, blue
