"""Detection and instance segmentation: batches, losses, and scores over every test image once.

Shape letters: B batch, H height and W width of the canvas (the model's `input_size`), n objects of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from patchscale import models
from patchscale.data import DataSpec, Draws
from patchscale.data._random import draw
from patchscale.data.boxes import BoxSet, Placement, fitted, jittered, load_boxes
from patchscale.data.spec import Split
from patchscale.errors import InputError
from patchscale.tasks.detection.ap import Kind, Precision, average_precision, result, truth_of
from patchscale.tasks.detection.found import Objects, on_canvas, on_original
from patchscale.tasks.detection.illustrate import write_predictions
from patchscale.tasks.detection.model import Detector
from patchscale.tasks.detection.options import Options
from patchscale.tasks.detection.predict import predict
from patchscale.tasks.refuse import refuse_unfit
from patchscale.tasks.task import Autocast, Batch, ModelSpec, Predicted, Regularisation, Trained, evaluate

SUITED = ("horizontal_flip", "three_augment", "blur_sigma", "color_jitter")
"""Augmentations after which boxes and masks are where they were, mirroring aside."""
LOSSES = ("rpn_loss", "box_loss", "mask_loss")


class Measured(NamedTuple):
    """One test image: its number, its losses, the objects found."""

    index: int
    losses: dict[str, float]
    objects: Objects


class Detection:
    """(Cascade) Mask R-CNN on a data set with boxes and perhaps masks."""

    Options = Options

    def __init__(self, model: ModelSpec, data: DataSpec, options: Options, regularisation: Regularisation) -> None:
        self.spec, self.options, self.regularisation = model, options, regularisation
        refuse_unfit(regularisation, "detection", augment=SUITED)
        self.data = data
        self.test_set = self._load("test")
        self.classes, self.test_size = self.test_set.classes, len(self.test_set)
        self.mean, self.std = self.test_set.mean, self.test_set.std
        self.decodes = True
        """Scaling and cutting is worth doing ahead even where scenes are drawn."""
        self.precision: dict[str, Precision] = {}
        """What the last scores were made of, by kind."""

    @cached_property
    def train_set(self) -> BoxSet:
        """Loaded when it is first asked for: evaluation does without."""
        train_set = self._load("train")
        if train_set.classes != self.classes:
            raise InputError(f"{self.data.name}: training and test annotations do not name the same categories")
        return train_set

    @property
    def train_size(self) -> int:
        return len(self.train_set)

    @staticmethod
    def network(spec: ModelSpec, classes: int, options: Options) -> Detector:
        """A `Detector` on the encoder of `spec`."""
        encoder = models.create(spec.name, num_classes=0, **spec.arguments)
        return Detector(encoder, spec.patch_size, classes, options)

    def build_model(self) -> nn.Module:
        """See `Task.build_model`."""
        return self.network(self.spec, len(self.classes), self.options)

    def encoder(self, model: nn.Module) -> nn.Module:
        """The part before the pyramid."""
        assert isinstance(model.encoder, nn.Module)
        return model.encoder

    @staticmethod
    def head_cost(spec: ModelSpec, classes: int, options: Options) -> tuple[int, int]:
        """Parameters and forward FLOPs of an image (a multiply-add as 2) beyond the encoder.

        Counted as in training: `rois_sampled` proposals in every stage, a quarter of them in the mask head.
        """
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            model = Detection.network(spec, classes, options)
            grid = (spec.input_size[0] // spec.patch_size, spec.input_size[1] // spec.patch_size)
            maps = model.pyramid(torch.empty(1, model.pyramid.embed_dim, *grid))
            model.proposals.head(list(maps.values()))
            for stage in model.heads.stages:
                stage(torch.empty(options.rois_sampled, options.width, 7, 7))
            if model.heads.mask_head is not None:
                model.heads.mask_head(torch.empty(max(1, options.rois_sampled // 4), options.width, 14, 14))
        parts = (model.pyramid, model.proposals, model.heads)
        return sum(p.numel() for part in parts for p in part.parameters()), counter.get_total_flops()

    def batch(self, indices: Tensor, seed: int, rows: slice) -> Batch:
        """Images float32 [B, 3, H, W]; sizes, objects and random seeds of each as targets."""
        images, sizes, objects, seeds = [], [], [], []
        for place in range(len(indices))[rows]:
            index = int(indices[place])
            record, augment = self.train_set.record(index), self.regularisation.augment
            placement = jittered(
                (record.height, record.width),
                self.spec.input_size,
                self.options.jitter,
                augment.horizontal_flip,
                seed,
                place,
                self.options.short_side,
            )
            generator = torch.Generator().manual_seed(_seed(seed, place, 4))
            pixels = self._pixels(self.train_set, index, placement)
            pixels = augment.model_copy(update={"horizontal_flip": 0.0})(pixels, Draws(generator, 1))
            images.append(self._on_canvas(pixels))
            sizes.append(placement.shown)
            objects.append(self._objects(self.train_set, index, placement))
            seeds.append(_seed(seed, place, 5))
        return Batch(torch.cat(images), {"sizes": sizes, "objects": objects, "seeds": seeds})

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """The sum of proposal, box and mask losses, a mean over images."""
        return torch.stack(list(model(batch.inputs, **batch.targets).losses.values())).sum()

    @torch.no_grad()
    def measure(self, model: nn.Module, device: torch.device, autocast: Autocast, indices: Tensor) -> list[Measured]:
        """See `Task.measure`; one image at a time, its samples for the losses drawn from its own number."""
        measured = []
        for index in indices.tolist():
            record = self.test_set.record(index)
            placement = fitted((record.height, record.width), self.spec.input_size, self.options.short_side)
            image = self._on_canvas(self._pixels(self.test_set, index, placement))
            objects = [self._objects(self.test_set, index, placement)]
            batch = Batch(image, {"sizes": [placement.shown], "objects": objects, "seeds": [index]}).to(device)
            with autocast():
                found = model(batch.inputs, **batch.targets)
            losses = {name: float(loss) for name, loss in found.losses.items()}
            measured.append(Measured(index, losses, on_original(found.detected[0], placement)))
        return measured

    def scores(self, parts: Sequence[list[Measured]]) -> dict[str, float]:
        """Losses (means over images) and AP.

        `detection_loss` is `rpn_loss` + `box_loss`; `test_loss` adds `mask_loss`.
        """
        measured = sorted((one for part in parts for one in part), key=lambda one: one.index)
        losses = {
            name: float(np.mean([one.losses[name] for one in measured]))
            for name in LOSSES
            if name in measured[0].losses
        }
        detection = losses["rpn_loss"] + losses["box_loss"]
        scores = {"test_loss": detection + losses.get("mask_loss", 0.0), "detection_loss": detection, **losses}
        truth, results = truth_of(self.test_set), self.results(measured)
        kinds: tuple[Kind, ...] = ("box", "mask") if self.options.masks else ("box",)
        for kind in kinds:
            self.precision[kind] = average_precision(truth, results, kind, self.options.detections)
            scores |= self.precision[kind].scores(kind)
        return scores

    def illustrate(self, model: nn.Module, device: torch.device, autocast: Autocast, folder: Path) -> None:
        """Pictures of some test images, AP by class and precision-recall curves of the last scores, in `folder`."""
        if not self.precision:
            evaluate(self, model, device, autocast)  # a trial resumed after its last test point
        was_training = model.training
        model.eval()
        write_predictions(self, model, device, autocast, folder, self.precision)
        model.train(was_training)

    @staticmethod
    def predict(trained: Trained, paths: list[Path], out: Path, device: torch.device) -> Predicted:
        """See `patchscale.tasks.detection.predict`."""
        return predict(trained, paths, out, device)

    def results(self, measured: Sequence[Measured]) -> list[dict]:
        """The objects found in test images as COCO's result files have them."""
        return [
            result(
                self.test_set.record(index).image_id,
                self.test_set.category_ids[label],
                score,
                box,
                objects.masks[place] if objects.masks is not None else None,
            )
            for index, _, objects in measured
            for place, (label, score, box) in enumerate(
                zip(objects.labels.tolist(), objects.scores.tolist(), objects.boxes.tolist(), strict=True)
            )
        ]

    def _load(self, split: Split) -> BoxSet:
        found = load_boxes(self.data, split, self.spec.input_size)
        if self.options.masks and not found.has_masks:
            raise InputError(
                f"{found.name}, {split}: not every object has a mask; add masks, or train with task_options.masks=false"
            )
        return found

    def _pixels(self, data: BoxSet, index: int, placement: Placement) -> Tensor:
        """uint8 [1, 3, h, w]: the image as placed."""
        pixels = placement.pixels(data.image(index), self.data.resample)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]

    def _on_canvas(self, pixels: Tensor) -> Tensor:
        """uint8 [1, 3, h, w] to normalised float32 [1, 3, H, W], zero beyond the image."""
        return on_canvas(pixels, self.spec.input_size, self.mean, self.std)

    def _objects(self, data: BoxSet, index: int, placement: Placement) -> dict[str, Tensor]:
        target = data.target(index, placement, self.spec.input_size, self.options.masks)
        objects = {"boxes": target.boxes, "labels": target.labels + 1}
        return objects if target.masks is None else objects | {"masks": target.masks}


def _seed(*keys: int) -> int:
    """63 random bits of one place in a batch."""
    return int(draw(*keys)[0] >> np.uint64(1))
