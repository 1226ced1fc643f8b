"""The planner's grid for the page: what `patchscale plan --table results.csv` answers."""

from __future__ import annotations

from typing import Any

import numpy as np

from patchscale.cost import DEVICES, plan_grid
from patchscale.errors import InputError
from patchscale.report.run import Run


def planner_grid(runs: list[Run]) -> dict[str, Any]:
    """Plans from a study's own table, at its median samples seen; `{"reason": ...}` where there can be none."""
    run = runs[0]
    if reason := _unfit(runs):
        return {"reason": reason}
    try:
        grid = plan_grid(int(np.median(run.results["samples_seen"])), table=run.results)
    except InputError as error:
        return {"reason": str(error)}
    return grid | {"first": _like(str(run.results["device"].iloc[0]))}


def _unfit(runs: list[Run]) -> str:
    """Why the planner cannot speak of these runs; empty if it can."""
    run = runs[0]
    if len(runs) > 1:
        return "several studies are merged here, whose trials may differ in data; open the report of one"
    if run.study.get("model", {}).get("options"):
        return "model.options change the size of these models, and the planner knows registered sizes only"
    if missing := {"samples_seen", "device"} - set(run.results.columns):
        return (
            f"the table has no {' and no '.join(sorted(missing))}" if len(run.results) else "no trial has finished yet"
        )
    return ""


def _like(device: str) -> str:
    """The device of the planner to show first: the one the study ran on, or a processor."""
    return next((one.name for one in DEVICES.values() if one.title.split()[1] in device), "cpu")
