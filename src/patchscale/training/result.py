"""The one row that a finished trial adds to its study's table."""

from __future__ import annotations

import math
from typing import Any

from patchscale.cost import Cost
from patchscale.training.trial import TrialConfig


def result_row(
    config: TrialConfig,
    metrics: list[dict[str, Any]],
    cost: Cost,
    *,
    seconds: float,
    peak_memory: int,
    device: str,
    commit: str,
) -> dict[str, Any]:
    """Flat and JSON-able: losses from the last lines of `metrics`, counted costs, measured time and memory."""
    tests = [line for line in metrics if line["kind"] == "test"]
    last = tests[-1]
    before = [line["test_loss"] for line in metrics if line["kind"] == "init"]
    scores = {
        name: value
        for name, value in last.items()
        if name not in {"kind", "step", "samples", "train_flops", "seconds", "peak_memory_bytes"}
    }
    return {
        "trial": config.trial_id,
        "task": config.task,
        "data": config.data.name,
        "model": config.model.name,
        "patch_size": config.model.patch_size,
        "input_size": config.model.size,
        "tokens": config.model.tokens,
        "random_seed": config.random_seed,
        "params": cost.params,
        "params_without_positions": cost.params_without_positions,
        "flops_per_image": cost.flops_forward,
        "train_flops": last["train_flops"],
        "steps": last["step"],
        "samples_seen": last["samples"],
        "train_loss": next(line["loss"] for line in reversed(metrics) if line["kind"] == "train"),
        **scores,
        **({"init_test_loss": before[0]} if before else {}),
        "loss_drop_last_doubling": drop_over_last_doubling(tests),
        "seconds": round(seconds, 2),
        "images_per_second": round(last["samples"] / seconds, 1),
        "peak_memory_bytes": peak_memory,
        "precision": config.recipe.precision,
        "device": device,
        "commit": commit,
    }


def drop_over_last_doubling(tests: list[dict[str, Any]]) -> float | None:
    """By which fraction the test loss fell while the samples seen doubled to their end; none with a single test point.

    The loss at half the samples is interpolated on a logarithmic axis between the test points around it.
    """
    if len(tests) < 2:
        return None
    half = tests[-1]["samples"] / 2
    before = next((line for line in reversed(tests) if line["samples"] <= half), None)
    if before is None:
        return None
    after = tests[tests.index(before) + 1]
    along = math.log(half / before["samples"]) / math.log(after["samples"] / before["samples"])
    at_half = before["test_loss"] + along * (after["test_loss"] - before["test_loss"])
    return 1 - tests[-1]["test_loss"] / at_half if at_half else 0.0
