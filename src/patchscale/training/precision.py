"""Which number format is quicker here, by measuring: on some processors bfloat16 wins by far, on others it loses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Literal

import torch
import torch.nn.functional as F

from patchscale import models
from patchscale.tasks import ModelSpec

TOKENS_A_BATCH = 8_192
REPEATS = 3
CLASSES = 10


def fastest_precision(
    specs: Iterable[ModelSpec], device: torch.device, *, say: Callable[[str], None] = lambda line: None
) -> Literal["float32", "bfloat16"]:
    """The format in which one step of each spec, summed over all specs, takes least time; one answer for all.

    A study trains everything in one format, so that the format cannot be mistaken for an effect of the axis.
    """
    totals = {"float32": 0.0, "bfloat16": 0.0}
    for spec in dict.fromkeys(spec.model_dump_json() for spec in specs):
        times = _step_seconds(ModelSpec.model_validate_json(spec), device)
        for name, seconds in times.items():
            totals[name] += seconds
    if device.type == "cuda":
        torch.cuda.empty_cache()
    best = min(totals, key=lambda name: totals[name])
    say(f"precision {best}: one step of everything takes " + ", ".join(f"{s:.2f} s in {n}" for n, s in totals.items()))
    return best  # pyright: ignore[reportReturnType]


def _step_seconds(spec: ModelSpec, device: torch.device) -> dict[str, float]:
    """Time of forward and backward per image, the least of interleaved repeats."""
    model = models.create(spec.name, num_classes=CLASSES, **spec.arguments).to(device)
    batch = max(2, min(128, TOKENS_A_BATCH // spec.tokens))
    images = torch.zeros(batch, 3, *spec.input_size, device=device)
    labels = torch.zeros(batch, dtype=torch.long, device=device)
    best = {"float32": float("inf"), "bfloat16": float("inf")}
    for _ in range(REPEATS):
        for name in best:
            started = time.perf_counter()
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=name == "bfloat16"):
                loss = F.cross_entropy(model(images).float(), labels)
            loss.backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best[name] = min(best[name], (time.perf_counter() - started) / batch)
    return best
