"""The planner's grid for the page: what `patchscale plan --table results.csv` answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from patchscale.cost import DEVICES, plan_grid
from patchscale.errors import InputError
from patchscale.report.run import Run


def planner_grid(runs: list[Run]) -> dict[str, Any] | None:
    """Plans from a study's own table, at its median samples seen; None where its table carries no law to plan by.

    Merged sets have none (their trials may differ in data), nor have models whose options change their size, nor tasks
    whose models are more than the encoder that the planner counts.
    """
    run = runs[0]
    if run.study.get("task", "classification") != "classification":
        return None
    if len(runs) > 1 or run.results.empty or run.study.get("model", {}).get("options"):
        return None
    if "samples_seen" not in run.results:
        return None
    try:
        grid = plan_grid(int(np.median(run.results["samples_seen"])), table=run.results)
    except InputError:
        return None
    return grid | {"first": _like(str(run.results["device"].iloc[0]))}


def _like(device: str) -> str:
    """The device of the planner to show first: the one the study ran on, or a processor."""
    return next((one.name for one in DEVICES.values() if one.title.split()[1] in device), "cpu")
