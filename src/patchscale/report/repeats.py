"""The figure of a study of repeated data: test loss and effective model size over the number of repeats; and how a
language model copies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from patchscale.report.draw import End, log_scale
from patchscale.report.theme import LIGHT, shades

Row = dict[str, Any]
ASIDE = 1.08
"""Factor on the repeats by which the models' points stand beside each other, so that no bar hides another."""


def loss_panel(axes: Axes, rows: list[Row], labels: dict[str, str]) -> list[End]:
    """Mean test loss of every model, with the interval of its difference to the trials without repetition."""
    return _lines(axes, rows, labels, lambda row: row["loss"], _harm)


def size_panel(axes: Axes, rows: list[Row], labels: dict[str, str]) -> list[End]:
    """The size of the clean model that a model is as good as, as a share of its own."""
    value = lambda row: row["effective_size"] and row["effective_size"] / row["size"]  # noqa: E731
    ends = _lines(axes, rows, labels, value, _share)
    axes.axhline(1, color=LIGHT["soft"], linewidth=0.8, linestyle=(0, (2, 2)))
    return ends


def matching_panel(axes: Axes, rows: list[Row], labels: dict[str, str]) -> list[End]:
    """How far attention looks at the word to copy, mean over heads."""
    return _lines(axes, rows, labels, lambda row: row["answer_prefix_matching"], lambda row: (0.0, 0.0))


def _lines(
    axes: Axes,
    rows: list[Row],
    labels: dict[str, str],
    value: Callable[[Row], float | None],
    reach: Callable[[Row], tuple[float, float]],
) -> list[End]:
    """A line a model; returns what names them.

    A bar that reaches below zero, which a log axis cannot show, runs out of the panel.
    """
    models = list(dict.fromkeys(row["model"] for row in rows))
    ends, shown = [], []
    for place, (model, colour) in enumerate(zip(models, shades(len(models), LIGHT), strict=True)):
        own = [row for row in rows if row["model"] == model and (value(row) or 0) > 0]
        if not own:
            continue
        aside = ASIDE ** (place - (len(models) - 1) / 2)
        x, y = np.array([row["repeats"] * aside for row in own]), np.array([value(row) for row in own], dtype=float)
        down, up = np.array([reach(row) for row in own]).T
        axes.errorbar(x, y, yerr=(down, up), color=colour, marker=".", markersize=4, elinewidth=0.6)
        shown += [*(y + up), *np.where(down < y, y - down, y / 2)]
        ends.append((x[-1], y[-1], labels.get(model, model), colour))
    if shown:
        axes.dataLim.update_from_data_y(shown, ignore=True)
    log_scale(axes, "x", "repeats")
    axes.set_xlabel("repeats")
    return ends


def _harm(row: Row) -> tuple[float, float]:
    """Down and up."""
    if row["excess_low"] is None:
        return 0.0, 0.0
    return row["excess"] - row["excess_low"], row["excess_high"] - row["excess"]


def _share(row: Row) -> tuple[float, float]:
    """Down and up; nothing where an end is open."""
    low, high = (row[end] or row["effective_size"] for end in ("effective_low", "effective_high"))
    return (row["effective_size"] - low) / row["size"], (high - row["effective_size"]) / row["size"]
