"""How a batch is placed on devices: images of one pass, accumulation, recompute; and the time and memory of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from patchscale.cost.devices import GIB, Device
from patchscale.cost.estimate import Cost
from patchscale.cost.memory import Memory, largest_batch, training_memory
from patchscale.cost.time import StepTime, step_time

GPU_SHARE, GPU_CONTEXT = 0.92, 1 * GIB
"""Usable part of a GPU's memory after fragmentation, and what the driver and libraries take."""
CPU_SHARE = 0.75
"""Usable part of a machine's memory: the rest is for the system, the program and the data."""
FULL_ROWS = 4096
"""Rows in one pass from which larger passes no longer raise a device's rate."""


@dataclass(frozen=True)
class Placement:
    """One update on the devices.

    Attributes:
        batch_per_pass: images of one forward pass on one device.
        accumulation: passes of one update.
        recompute: whether blocks are computed again in the backward pass.
        memory: peak of one device.
        step: time of one update.
        fits: whether `memory` is within the limit; if not, this is the smallest there is.
    """

    batch_per_pass: int
    accumulation: int
    recompute: bool
    memory: Memory
    step: StepTime
    fits: bool


def usable_memory(device: Device, memory_bytes: float | None) -> float:
    """Bytes that training may take of one device (of `memory_bytes` instead of the data sheet's, if given)."""
    total = device.memory_bytes if memory_bytes is None else memory_bytes
    return CPU_SHARE * total if device.is_cpu else max(0.0, GPU_SHARE * total - GPU_CONTEXT)


def place(cost: Cost, device: Device, *, gpus: int, batch_size: int, limit: float) -> Placement:
    """The fastest way to do an update of `batch_size` images within `limit` bytes a device.

    Nothing is recomputed if a pass of everything, or of `FULL_ROWS` rows, fits without; recompute costs a third more.
    """
    share = -(-batch_size // gpus)
    common: dict[str, Any] = {"precision": device.precision, "cpu": device.is_cpu, "gpus": gpus}
    chosen = None
    for recompute in (False, True):
        enough = min(share, -(-FULL_ROWS // cost.tokens))
        largest = share
        if training_memory(cost, batch_size=share, recompute=recompute, **common).peak > limit:
            largest = largest_batch(cost, limit, recompute=recompute, accumulation=2, **common)
        if largest == 0:
            continue
        chosen = (min(largest, share), recompute)
        if largest >= enough:
            break
    per_pass, recompute = chosen or (1, True)
    passes = -(-share // per_pass)
    per_pass = -(-share // passes)
    memory = training_memory(cost, batch_size=per_pass, recompute=recompute, accumulation=passes, **common)
    return Placement(
        batch_per_pass=per_pass,
        accumulation=passes,
        recompute=recompute,
        memory=memory,
        step=step_time(cost, device, batch_size=batch_size, gpus=gpus, recompute=recompute),
        fits=chosen is not None,
    )
