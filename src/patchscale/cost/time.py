"""Training time by a roofline: the slower of products and memory traffic, then what communication cannot hide.

    compute = model FLOPs / (peak x efficiency)            efficiency: one number per device and model family
    traffic = bytes / (bandwidth x 0.8)                    five passes over what autograd keeps, and the weights' update
    step    = max(compute, traffic) + max(0, communication - 2/3 of that max)

Recomputation adds a forward pass to both (4/3). Communication is a ring all-reduce of float32 gradients, hidden behind
the backward pass (two thirds of a step). The five passes: written, read by the next layer, read by the backward pass,
and its gradient written and read. 0.8 is the share of the data sheet's bandwidth that a copy usually reaches.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from patchscale.cost.devices import Device
from patchscale.cost.estimate import Cost
from patchscale.cost.memory import PRECISIONS, activation_memory
from patchscale.errors import InputError

PASSES = 5
BANDWIDTH_SHARE = 0.8
BACKWARD_SHARE = 2 / 3
NODE = 8
FLOAT = 4
UPDATE_BYTES = 28
"""Bytes a parameter that AdamW's update moves: weight, gradient and two moments read, three of them written."""


@dataclass(frozen=True)
class StepTime:
    """Seconds of one update on all devices together.

    Attributes:
        compute: products at the stated efficiency.
        traffic: memory traffic.
        communication: all-reduce of the gradients, before hiding.
        step: what the update takes.
        bound: `compute`, `memory` or `communication`, whichever decides.
        mfu: model FLOPs over time over dense peak of all devices.
    """

    compute: float
    traffic: float
    communication: float
    step: float
    bound: str
    mfu: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return dataclasses.asdict(self)


def step_time(
    cost: Cost,
    device: Device,
    *,
    batch_size: int,
    gpus: int = 1,
    precision: str | None = None,
    recompute: bool = False,
) -> StepTime:
    """Time of one update of `batch_size` images in all, split evenly over `gpus` devices.

    Args:
        cost: of `estimate`.
        device: one device.
        batch_size: images of the update over all devices.
        gpus: devices; eight make a node, more than eight talk over `device.network`.
        precision: the device's fastest if not given.
        recompute: whether blocks are computed again in the backward pass.

    Raises:
        InputError: no device, fewer images than devices, or a precision the device lacks.
    """
    if gpus < 1 or batch_size < gpus:
        raise InputError(f"batch_size {batch_size} on {gpus} devices: use one device or more and an image for each")
    precision = precision or device.precision
    images = -(-batch_size // gpus)
    again = (1 + 3) / 3 if recompute else 1.0
    peak = device.peak(precision)
    compute = again * images * cost.flops_train / (peak * device.efficiency[cost.shape.family])
    kept = activation_memory(cost, precision=precision, batch_size=images, cpu=device.is_cpu).kept
    weight_bytes = cost.params * (UPDATE_BYTES + 3 * PRECISIONS[precision][1])
    traffic = (again * images * PASSES * kept + weight_bytes) / (device.bandwidth * BANDWIDTH_SHARE)
    communication = all_reduce_seconds(FLOAT * cost.params, device, gpus)
    work = max(compute, traffic)
    exposed = max(0.0, communication - BACKWARD_SHARE * work)
    step = work + exposed
    bound = "communication" if exposed > work else ("compute" if compute >= traffic else "memory")
    mfu = batch_size * cost.flops_train / (step * gpus * peak)
    return StepTime(compute=compute, traffic=traffic, communication=communication, step=step, bound=bound, mfu=mfu)


def all_reduce_seconds(size: float, device: Device, gpus: int) -> float:
    """Ring all-reduce of `size` bytes: 2 (n - 1) / n of them cross each link, one direction."""
    rate = device.link if gpus <= NODE else min(device.link, device.network)
    return 2 * (gpus - 1) / gpus * size / rate


def model_flops_hours(cost: Cost, device: Device, images: float, *, precision: str = "bfloat16") -> float:
    """Device-hours of training on `images` images from model FLOPs and the device's one efficiency alone (table 6)."""
    return cost.flops_train * images / (device.peak(precision) * device.efficiency[cost.shape.family]) / 3600
