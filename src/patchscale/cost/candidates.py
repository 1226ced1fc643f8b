"""Which configurations a plan considers, at their full schedules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from patchscale.cost.configuration import Draft, stage_plan
from patchscale.cost.devices import Device
from patchscale.cost.estimate import estimate
from patchscale.cost.schedules import COARSE_PATCH, PRETRAINED, Stage, published_batch, stages
from patchscale.cost.shapes import SHAPES, shape_of
from patchscale.errors import InputError

if TYPE_CHECKING:
    from patchscale.cost.table_law import TableLaw

INPUTS, PATCHES = (64, 128, 224), (16, 8, 4, 2, 1)
UPDATES_AN_EPOCH, LEAST_BATCH = 200, 128
"""A small data set takes smaller batches than the published ones: 200 updates an epoch or more, 128 images or more."""


def draft_published(
    device: Device, *, gpus: int, limit: float, images: int, num_classes: int, models: Sequence[str] | None,
    inputs: Sequence[int] | None, patches: Sequence[int] | None,
) -> Iterator[Draft]:  # fmt: skip
    """Every model, input, patch size and start, on the published schedule."""
    for name in models or _default_models(device):
        shape = shape_of(name)
        batch = max(gpus, _batch(published_batch(shape), images))
        for side in inputs or INPUTS:
            for patch_size in _dividing(side, patches or PATCHES):
                for start in _starts(name, side, patch_size):
                    done = [
                        _stage(name, stage, patch_size, device, gpus, batch, limit, images, num_classes)
                        for stage in stages(shape, side, patch_size, start)
                    ]
                    yield Draft(start=start, batch_size=batch, stages=tuple(done))


def draft_table(
    device: Device, law: TableLaw, *, gpus: int, limit: float, images: int, num_classes: int,
    models: Sequence[str] | None, inputs: Sequence[int] | None, patches: Sequence[int] | None,
) -> Iterator[Draft]:  # fmt: skip
    """Every model and input of the table that has a law, at its own patch sizes and one finer."""
    for (name, size), samples in law.samples.items():
        if (models and name not in models) or (inputs and size not in [(side, side) for side in inputs]):
            continue
        seen = law.patches[(name, size)]
        for patch_size in patches or sorted({*seen, *(p for p in (min(seen) / 2,) if p >= 1 and p == int(p))}):
            patch_size = int(patch_size)
            if size[0] % patch_size or size[1] % patch_size:
                continue
            cost = estimate(name, input_size=size, patch_size=patch_size, num_classes=num_classes)
            batch = max(gpus, law.batches[(name, size)])
            plan = stage_plan(cost, samples / images, device, gpus=gpus, batch=batch, limit=limit, images=images)
            yield Draft(start="scratch", batch_size=batch, stages=(plan,))


def _stage(
    name: str,
    stage: Stage,
    patch_size: int,
    device: Device,
    gpus: int,
    batch: int,
    limit: float,
    images: int,
    classes: int,
):
    cost = estimate(name, input_size=stage.input_size, patch_size=patch_size, num_classes=classes)
    return stage_plan(cost, stage.epochs, device, gpus=gpus, batch=batch, limit=limit, images=images)


def _starts(name: str, side: int, patch_size: int) -> tuple[str, ...]:
    movable = name in PRETRAINED and patch_size < COARSE_PATCH and side % COARSE_PATCH == 0
    return ("scratch", "coarser") if movable else ("scratch",)


def _default_models(device: Device) -> list[str]:
    small = {"zepto", "atto", "femto"} if device.is_cpu else {"zepto", "atto", "femto", "pico", "nano"}
    return [name for name in SHAPES if name.endswith("_patch16") and name.split("_")[1] not in small]


def _dividing(side: int, patches: Sequence[int]) -> list[int]:
    if side < 1 or any(patch < 1 for patch in patches):
        raise InputError(f"input size {side} and patch sizes {list(patches)} must be positive")
    return [patch for patch in patches if side % patch == 0]


def _batch(published: int, images: int) -> int:
    batch = published
    while batch > LEAST_BATCH and images / batch < UPDATES_AN_EPOCH:
        batch //= 2
    return batch
