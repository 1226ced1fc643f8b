"""The planner's answers on a grid of devices, hours and targets, for pages that have no Python: exact at its nodes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from patchscale.cost.devices import DEVICES
from patchscale.cost.plan_result import Plan
from patchscale.cost.planner import LEAST_SHARE, Budget, Knowledge, Planner

if TYPE_CHECKING:
    import pandas as pd

COUNTS = (1, 2, 4, 8)
BUDGETS = (1 / 360, 1 / 60, 1 / 12, 0.5, 1, 2, 4, 8, 24, 48, 168, 720)
"""Hours that a grid may hold, from ten seconds to a month: those between the least and the most that anything takes."""
TARGETS = 4


def plan_grid(
    data_size: int,
    *,
    table: pd.DataFrame | Path | str | None = None,
    metric: str | None = None,
    devices: Sequence[str] = tuple(DEVICES),
    counts: Sequence[int] = COUNTS,
    hours: Sequence[float] | None = None,
    num_classes: int = 1000,
) -> dict[str, Any]:
    """The best plan of every node.

    Args:
        data_size, table, metric, num_classes: as of `plan`.
        devices: names; a processor is always alone.
        counts: devices used together.
        hours: budgets, rising; of `BUDGETS` what matters for what can be trained, if not given.

    Returns:
        JSON-able: `devices` [{name, title}], `counts`, `hours`, `targets` (the first is null: none; then test losses
        or top-1 accuracies between the worst and the best that the longest budget expects), `quantity`, `source`,
        `texts`, and `nodes`: for each device, count, hours and target in this order, the fields of `FIELDS` of the best
        configuration (`notes` and `outside` point into `texts`).

    Raises:
        InputError: the table carries no law.
    """
    knowledge = Knowledge(data_size, table=table, metric=metric)
    planners = [
        [
            Planner(knowledge, DEVICES[name], gpus=count, num_classes=num_classes)
            if count == 1 or not DEVICES[name].is_cpu
            else None
            for count in counts
        ]
        for name in devices
    ]
    every = [planner for row in planners for planner in row if planner]
    hours = hours or _budgets(every)
    first = every[0]
    ranked = first.plan(Budget("hours", max(hours)), top=len(first.drafts)).configurations
    targets = [None, *_targets([line.predicted for line in ranked], knowledge.outlook.law.quantity)]
    texts: dict[str, int] = {}
    nodes = [
        [
            [
                [_node(planner.plan(Budget("hours", budget), target=target, top=1), texts) for target in targets]
                for budget in hours
            ]
            if planner
            else None
            for planner in row
        ]
        for row in planners
    ]
    return {
        "devices": [{"name": name, "title": DEVICES[name].title} for name in devices],
        "counts": list(counts),
        "hours": list(hours),
        "targets": targets,
        "quantity": knowledge.outlook.law.quantity,
        "data_size": data_size,
        "num_classes": num_classes,
        "source": knowledge.source,
        "fields": list(FIELDS),
        "texts": list(texts),
        "nodes": nodes,
    }


FIELDS = (
    "model", "input_size", "patch_size", "tokens", "start", "share", "batch_size", "hours", "hours_low", "hours_high",
    "memory_bytes", "predicted", "low", "high", "target_probability", "fits", "outside", "notes",
)  # fmt: skip


def _node(plan: Plan, texts: dict[str, int]) -> list[Any]:
    best = plan.configurations[0].to_dict()
    pointed = {"outside": best["outside"], "notes": plan.notes}
    best |= {name: [texts.setdefault(text, len(texts)) for text in found] for name, found in pointed.items()}
    return [float(f"{best[name]:.7g}") if isinstance(best[name], float) else best[name] for name in FIELDS]


def _budgets(planners: Sequence[Planner]) -> list[float]:
    needed = [draft.hours for planner in planners for draft in planner.drafts]
    low, high = LEAST_SHARE * min(needed), max(needed)
    above = next((budget for budget in BUDGETS if budget >= high), BUDGETS[-1])
    return [budget for budget in BUDGETS if low <= budget <= above] or [above]


def _targets(values: Sequence[float], quantity: str) -> list[float]:
    """Round values spread from the worst to the best expected, as `plan` takes them."""
    spread = np.geomspace(max(values), min(values), TARGETS + 1)[1:]
    rounded = [float(f"{value:.3g}") for value in spread]
    wanted = [round(1 - value, 3) for value in rounded] if quantity == "top1_error" else rounded
    return list(dict.fromkeys(wanted))
