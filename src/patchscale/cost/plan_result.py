"""What `plan` returns."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from patchscale.cost.configuration import Configuration
from patchscale.cost.devices import Device


@dataclass(frozen=True)
class Lesson:
    """The trial to run first: the one that shrinks the best plan's interval most per device-hour.

    Attributes:
        model, input_size, patch_size, start, share: the trial.
        device_hours: what it costs.
        interval_before, interval_after: of the best plan's prediction, with no result assumed.
        shrinks_by: relative shrinking of that interval, in logarithms.
    """

    model: str
    input_size: tuple[int, int]
    patch_size: int
    start: str
    share: float
    device_hours: float
    interval_before: tuple[float, float]
    interval_after: tuple[float, float]
    shrinks_by: float

    @property
    def sentence(self) -> str:
        """In words."""
        low, high = self.interval_before
        new_low, new_high = self.interval_after
        start = "" if self.start == "scratch" else ", from its weights at patch 16"
        return (
            f"run first: {self.model}, patch {self.patch_size} at {self.input_size[0]} x {self.input_size[1]}{start}, "
            f"{self.share:.0%} of its schedule ({self.device_hours:.3g} device-hours); it narrows the best plan's "
            f"interval from {low:.3g} .. {high:.3g} to about {new_low:.3g} .. {new_high:.3g} "
            f"({self.shrinks_by:.0%} narrower)"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        pairs = ("input_size", "interval_before", "interval_after")
        return dataclasses.asdict(self) | {name: list(getattr(self, name)) for name in pairs} | {"text": self.sentence}


@dataclass(frozen=True)
class Plan:
    """Ranked configurations for one device, budget and data set.

    Attributes:
        device, gpus, budget, data_size, target: what was asked; budget is {hours|money|flops: amount}.
        memory_bytes: usable bytes of one device.
        source: which law predicts.
        outlook: what the intervals stand on.
        fits: whether anything fits; if not, `configurations` are the nearest.
        configurations: best first.
        learn_first: the trial to run first, None if none costs a quarter of the budget or less.
        notes: what must be said of the whole plan.
    """

    device: Device
    gpus: int
    budget: dict[str, float]
    memory_bytes: float
    data_size: int
    target: float | None
    source: str
    outlook: dict[str, Any]
    fits: bool
    configurations: tuple[Configuration, ...]
    learn_first: Lesson | None
    notes: tuple[str, ...]

    @property
    def quantity(self) -> str:
        """What is predicted: `top1_error` or `test_loss`."""
        return self.outlook["quantity"]

    @property
    def text(self) -> str:
        """The plan as lines to print."""
        kind, amount = next(iter(self.budget.items()))
        count = f"{self.gpus} x " if self.gpus > 1 else ""
        lines = [f"{count}{self.device.title}, {amount:g} {kind}, {self.data_size:,} images; by {self.source}"]
        lines += [f"note: {note}" for note in self.notes]
        words = self.quantity.replace("_", " ").replace("top1", "top-1")
        lines += [f"{rank}. {line.sentence(words)}" for rank, line in enumerate(self.configurations, 1)]
        return "\n".join([*lines, *([self.learn_first.sentence] if self.learn_first else [])])

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "device": self.device.to_dict(),
            "gpus": self.gpus,
            "budget": self.budget,
            "memory_bytes": self.memory_bytes,
            "data_size": self.data_size,
            "target": self.target,
            "source": self.source,
            "outlook": self.outlook,
            "fits": self.fits,
            "configurations": [line.to_dict() for line in self.configurations],
            "learn_first": self.learn_first.to_dict() if self.learn_first else None,
            "notes": list(self.notes),
        }
