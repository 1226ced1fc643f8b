"""Which trials are worth their cost: the Pareto set of quality against one cost, over configurations."""

from __future__ import annotations

import pandas as pd

from patchscale.report.frames import means, where

COSTS = {
    "train_flops": "training FLOPs",
    "flops_per_image": "forward FLOPs per image",
    "seconds": "training time",
    "peak_memory_bytes": "peak memory",
}


def configurations(results: pd.DataFrame, axes: list[str], y: str = "test_loss") -> pd.DataFrame:
    """Means over random seeds: one row a configuration, with `seeds` and the trials in it.

    Args:
        results: the result table.
        axes: columns that name a configuration.
        y: the quality column (lower is better).
    """
    return means(results, axes, [name for name in (*COSTS, y) if name in results])


def pareto(table: pd.DataFrame, cost: str, y: str = "test_loss") -> pd.DataFrame:
    """Rows no other row beats in both `cost` and `y` (lower is better), cheapest first; rows without either are out."""
    known = table.dropna(subset=[cost, y]).sort_values([cost, y], kind="stable")
    best = known[y].astype(float).cummin().shift(fill_value=float("inf"))
    return where(known, known[y] < best)
