"""Detection and instance segmentation: batches, losses, and scores over every test image once.

Shape letters: B batch, H height and W width of the canvas (the model's `input_size`), n objects of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from patchscale import models
from patchscale.data import Augment, DataSpec, Draws, normalise
from patchscale.data._random import draw
from patchscale.data.boxes import BoxSet, Placement, fitted, jittered, load_boxes
from patchscale.errors import InputError
from patchscale.tasks.detection.ap import Kind, average_precision, result, truth_of
from patchscale.tasks.detection.found import Objects, on_original
from patchscale.tasks.detection.model import Detector
from patchscale.tasks.detection.options import Options
from patchscale.tasks.task import Autocast, Batch, ModelSpec, Regularisation

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
        _check(regularisation)
        self.resample = data.resample
        self.train_set = load_boxes(data, "train", model.input_size)
        self.test_set = load_boxes(data, "test", model.input_size)
        for side in (self.train_set, self.test_set):
            if options.masks and not side.has_masks:
                raise InputError(
                    f"{side.name}, {side.split}: not every object has a mask; set task_options.masks=false"
                )
        if self.train_set.classes != self.test_set.classes:
            raise InputError(f"{data.name}: training and test annotations do not name the same categories")
        self.classes = self.train_set.classes
        self.train_size, self.test_size = len(self.train_set), len(self.test_set)
        self.decodes = True
        self.mean, self.std = self.train_set.mean, self.train_set.std

    @staticmethod
    def network(spec: ModelSpec, classes: int, options: Options) -> Detector:
        """A `Detector` on the encoder of `spec`."""
        encoder = models.create(
            spec.name,
            input_size=spec.input_size,
            patch_size=spec.patch_size,
            num_classes=0,
            positions=spec.positions,
            drop_path=spec.drop_path,
            **spec.options,
        )
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
        """Images float32 [B, 3, H, W]; sizes and objects of each as targets."""
        images, sizes, objects = [], [], []
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
            generator = torch.Generator().manual_seed(int(draw(seed, place, 4)[0] >> np.uint64(1)))
            pixels = self._pixels(self.train_set, index, placement)
            pixels = augment.model_copy(update={"horizontal_flip": 0.0})(pixels, Draws(generator, 1))
            images.append(self._on_canvas(pixels))
            sizes.append(placement.shown)
            objects.append(self._objects(self.train_set, index, placement))
        return Batch(torch.cat(images), {"sizes": sizes, "objects": objects})

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
            targets = {"sizes": [placement.shown], "objects": [self._objects(self.test_set, index, placement)]}
            batch = Batch(image, targets).to(device)
            with torch.random.fork_rng([device] if device.type == "cuda" else []), autocast():
                torch.manual_seed(index)
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
            scores |= average_precision(truth, results, kind, self.options.detections).scores(kind)
        return scores

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

    def _pixels(self, data: BoxSet, index: int, placement: Placement) -> Tensor:
        """uint8 [1, 3, h, w]: the image as placed."""
        pixels = placement.pixels(data.image(index), self.resample)
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None]

    def _on_canvas(self, pixels: Tensor) -> Tensor:
        """uint8 [1, 3, h, w] to normalised float32 [1, 3, H, W], zero beyond the image."""
        return on_canvas(pixels, self.spec.input_size, self.mean, self.std)

    def _objects(self, data: BoxSet, index: int, placement: Placement) -> dict[str, Tensor]:
        target = data.target(index, placement, self.spec.input_size, self.options.masks)
        objects = {"boxes": target.boxes, "labels": target.labels + 1}
        return objects if target.masks is None else objects | {"masks": target.masks}


def on_canvas(
    pixels: Tensor, canvas: tuple[int, int], mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """uint8 [1, 3, h, w] to normalised float32 [1, 3, H, W], zero beyond the image."""
    out = torch.zeros(1, 3, *canvas)
    out[..., : pixels.shape[-2], : pixels.shape[-1]] = normalise(pixels, mean, std)
    return out


def _check(regularisation: Regularisation) -> None:
    """Raises InputError for what would move pixels without their boxes, or mix images."""
    suits = ("horizontal_flip", "three_augment", "blur_sigma", "color_jitter")
    standard = Augment()
    unfit = [
        f"augment.{name}"
        for name, value in regularisation.augment
        if name not in suits and value != getattr(standard, name)
    ]
    unfit += ["mixing"] if regularisation.mixing.active else []
    unfit += ["label_smoothing"] if regularisation.label_smoothing else []
    if unfit:
        raise InputError(f"recipe.{unfit[0]} does not suit detection, where objects have places; leave it out")
