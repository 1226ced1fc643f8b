"""One planned training: what is trained, how, how long, with what memory, and what is expected of it."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from patchscale.cost.devices import GIB, Device
from patchscale.cost.estimate import Cost
from patchscale.cost.outlook import Belief
from patchscale.cost.placement import Placement, place
from patchscale.cost.schedules import Stage


@dataclass(frozen=True)
class StagePlan:
    """One stage of a training, at the full schedule.

    Attributes:
        cost: the model at this stage's input.
        epochs: of the full schedule.
        placement: how an update is done.
        hours: wall-clock hours of all its epochs.
        flops: model FLOPs of all its epochs.
    """

    cost: Cost
    epochs: float
    placement: Placement
    hours: float
    flops: float


@dataclass(frozen=True)
class Draft:
    """A configuration at its full schedule, before the budget has its say.

    Attributes:
        start: `scratch` or `coarser` (weights of the same model at patch 16).
        batch_size: images of one update over all devices.
        stages: in order; the last one is the configuration's own input size.
    """

    start: str
    batch_size: int
    stages: tuple[StagePlan, ...]

    @property
    def cost(self) -> Cost:
        """Of the last stage."""
        return self.stages[-1].cost

    @property
    def hours(self) -> float:
        """Wall-clock hours of the full schedule."""
        return sum(stage.hours for stage in self.stages)

    @property
    def flops(self) -> float:
        """Model FLOPs of the full schedule."""
        return sum(stage.flops for stage in self.stages)

    @property
    def fits_memory(self) -> bool:
        """Whether every stage fits on the device."""
        return all(stage.placement.fits for stage in self.stages)

    @property
    def memory_bytes(self) -> int:
        """The largest peak of its stages."""
        return max(stage.placement.memory.peak for stage in self.stages)


@dataclass(frozen=True)
class Configuration:
    """One line of a plan; hours are wall-clock hours on all devices together.

    Attributes:
        model, input_size, patch_size, tokens: what is trained.
        start: `scratch`, or `coarser`: from weights of the same model at patch 16.
        stages: input size and epochs of each stage.
        share: of the full schedule that the budget pays for, at most 1.
        batch_size, batch_per_device, accumulation: images of an update, of a pass on one device, passes of an update.
        recompute: whether blocks are computed again in the backward pass.
        precision: of the matrix products.
        hours, hours_low, hours_high: predicted, and its range by the device's `time_factor`.
        device_hours: hours times devices.
        money: device-hours times the price, None without one.
        train_flops: model FLOPs.
        memory_bytes: peak of one device.
        predicted, low, high: median and interval of the law's quantity for one run.
        target_probability: chance of reaching the target, None without one.
        outside: in which ways this lies outside the data behind the law; empty if inside.
        fits: whether memory and budget allow it.
        over: needed over given, of the scarcest of memory and budget (for the smallest share worth training); infinite
            if no memory is given.
    """

    model: str
    input_size: tuple[int, int]
    patch_size: int
    tokens: int
    start: str
    stages: tuple[Stage, ...]
    share: float
    batch_size: int
    batch_per_device: int
    accumulation: int
    recompute: bool
    precision: str
    hours: float
    hours_low: float
    hours_high: float
    device_hours: float
    money: float | None
    train_flops: float
    memory_bytes: int
    predicted: float
    low: float
    high: float
    target_probability: float | None
    outside: tuple[str, ...]
    fits: bool
    over: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; an infinite `over` is None."""
        return dataclasses.asdict(self) | {
            "over": self.over if math.isfinite(self.over) else None,
            "input_size": list(self.input_size),
            "stages": [dataclasses.asdict(stage) for stage in self.stages],
            "outside": list(self.outside),
        }

    def sentence(self, quantity: str) -> str:
        """The configuration in one plain sentence."""
        epochs = " then ".join(f"{stage.epochs:.3g} epochs at {stage.input_size}" for stage in self.stages)
        start = "from scratch" if self.start == "scratch" else "from its weights at patch 16"
        accumulated = f" x {self.accumulation} passes" if self.accumulation > 1 else ""
        recompute = "on (recipe.recompute=true)" if self.recompute else "off"
        text = (
            f"{self.model} with patch {self.patch_size} at {self.input_size[0]} x {self.input_size[1]} "
            f"({self.tokens:,} tokens), {start}, {epochs}, {self.share:.0%} of the full schedule; batch "
            f"{self.batch_size} ({self.batch_per_device} a device{accumulated}), recompute "
            f"{recompute}, {self.precision}; {self.hours:.3g} h ({self.hours_low:.3g} to "
            f"{self.hours_high:.3g}), {self.memory_bytes / GIB:.3g} GiB a device; {quantity} {self.predicted:.3g} "
            f"({self.low:.3g} to {self.high:.3g})"
        )
        if self.target_probability is not None:
            text += f", target reached with probability {self.target_probability:.2f}"
        if self.outside:
            text += f"; EXTRAPOLATED: {'; '.join(self.outside)}"
        return text


def stage_plan(
    cost: Cost, epochs: float, device: Device, *, gpus: int, batch: int, limit: float, images: int
) -> StagePlan:
    """Places one stage and times it."""
    placement = place(cost, device, gpus=gpus, batch_size=batch, limit=limit)
    updates = epochs * images / batch
    return StagePlan(
        cost=cost,
        epochs=epochs,
        placement=placement,
        hours=updates * placement.step.step / 3600,
        flops=epochs * images * cost.flops_train,
    )


def settle(
    draft: Draft, share: float, belief: Belief, *, device: Device, gpus: int, price: float | None,
    target: float | None, outside: list[str], fits: bool, over: float,
) -> Configuration:  # fmt: skip
    """The line of a plan for a draft of which `share` is trained."""
    last, hours = draft.stages[-1].placement, draft.hours * share
    return Configuration(
        model=draft.cost.model,
        input_size=draft.cost.input_size,
        patch_size=draft.cost.patch_size,
        tokens=draft.cost.tokens,
        start=draft.start,
        stages=tuple(Stage(stage.cost.input_size[0], stage.epochs * share) for stage in draft.stages),
        share=share,
        batch_size=draft.batch_size,
        batch_per_device=last.batch_per_pass,
        accumulation=last.accumulation,
        recompute=last.recompute,
        precision=device.precision,
        hours=hours,
        hours_low=hours / device.time_factor,
        hours_high=hours * device.time_factor,
        device_hours=hours * gpus,
        money=None if price is None else hours * gpus * price,
        train_flops=draft.flops * share,
        memory_bytes=draft.memory_bytes,
        predicted=belief.value,
        low=belief.low,
        high=belief.high,
        target_probability=None if target is None else belief.chance_below(target),
        outside=tuple(outside),
        fits=fits,
        over=over,
    )
