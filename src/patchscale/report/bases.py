"""The figure of a study of kept tokens: quality over K of every model size, a panel a reducer."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes

from patchscale.report.draw import End, log_scale
from patchscale.report.frames import distinct, means, where
from patchscale.report.theme import LIGHT, shades

FULL = "none"


def reducers_of(results: pd.DataFrame) -> list[str]:
    """What keeps fewer tokens, in order of appearance; empty for a study of something else."""
    if not {"reducer", "kept_tokens"} <= set(results.columns):
        return []
    return [str(name) for name in distinct(results, "reducer") if name != FULL]


def kept_panel(axes: Axes, results: pd.DataFrame, reducer: str, y: str, labels: dict[str, str]) -> list[End]:
    """Means over random seeds as lines, single ones as dots, one shade a model; returns what names them."""
    own = where(results, results["reducer"] == reducer)
    models = [str(name) for name in distinct(own.sort_values("params_without_positions", kind="stable"), "model")]
    ends = []
    for model, colour in zip(models, shades(len(models), LIGHT), strict=True):
        points = where(own, own["model"] == model)
        line = means(points, ["kept_tokens"], [y]).sort_values("kept_tokens")
        axes.plot(line["kept_tokens"], line[y], color=colour)
        axes.plot(points["kept_tokens"], points[y], ".", markersize=4, color=colour)
        ends.append((line["kept_tokens"].iloc[-1], line[y].iloc[-1], labels[model], colour))
    log_scale(axes, "x", "kept_tokens")
    axes.set_xlabel("kept tokens K")
    return ends
