"""S(n) for papers: measured points of every random seed, every law that was compared, the held-out n open."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from patchscale.report.frames import where
from patchscale.report.run import Run
from patchscale.report.theme import LIGHT
from patchscale.report.vision import N

DASHES = ("-", "--", ":", "-.", (0, (6, 2)))
WHOLE = ("dense", "caption")
"""Kinds of question whose answers are many words, of which the share of right ones is drawn; others are right or not.
"""


def drawn_curves(run: Run) -> list[dict[str, Any]]:
    """The curves that a paper shows: one for each kind of question and group of trials; none for another study."""
    return [curve for curve in run.laws.get("vision_tokens", []) if _drawn(curve["y"])]


def own_group(curve: dict[str, Any], curves: list[dict[str, Any]]) -> dict[str, Any]:
    """A curve's group without what all share, named in short."""
    group = curve["group"]
    own = [name for name in group if len({str(other["group"][name]) for other in curves}) > 1]
    return {name.removeprefix("task."): str(group[name]).replace("_", " ") for name in own}


def forms_of(curves: list[dict[str, Any]]) -> list[str]:
    """Every law that was fitted, in order of appearance."""
    return list(dict.fromkeys(law["form"] for curve in curves for law in curve["laws"]))


def vision_handles(forms: list[str]) -> list[Line2D]:
    """The legend: measured, held out, and a line for each law."""
    dot = {"linestyle": "none", "marker": "o", "markersize": 4, "color": LIGHT["measured"]}
    return [
        Line2D([], [], label="measured", **dot),
        Line2D([], [], label="held out", markerfacecolor=LIGHT["page"], **dot),
        *(
            Line2D([], [], color=LIGHT["predicted"], linestyle=dash, linewidth=1, label=form.replace("_", " "))
            for form, dash in zip(forms, DASHES, strict=False)
        ),
    ]


def vision_panel(axes: Axes, run: Run, curve: dict[str, Any], forms: list[str]) -> None:
    """Points of one curve, and its laws, each with the dash of its place in `forms`."""
    for law in curve["laws"]:
        if law["curve"]:
            dash = DASHES[forms.index(law["form"]) % len(DASHES)]
            axes.plot(law["curve"]["x"], law["curve"]["y"], color=LIGHT["predicted"], linestyle=dash, linewidth=1)
    keep = pd.Series(True, index=run.results.index)
    for name, value in curve["group"].items():
        keep &= run.results[name].astype(str) == str(value)
    points = where(run.results, keep)
    held = points[N].to_numpy() >= curve["held_from"]
    for part, face in ((where(points, ~held), LIGHT["measured"]), (where(points, held), LIGHT["page"])):
        style = {"linestyle": "none", "marker": "o", "markersize": 4, "markeredgewidth": 0.7}
        axes.plot(part[N], part[curve["y"]], color=LIGHT["measured"], markerfacecolor=face, **style)
    axes.set_xscale("log")
    axes.minorticks_off()
    counts = [mean["x"] for mean in curve["means"]]
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.set_xlabel("vision tokens n")
    axes.set_ylabel(curve["y"].replace("_", " "))


def _drawn(y: str) -> bool:
    kind, whole = y.split("_")[0], y.endswith("token_accuracy")
    return whole if kind in WHOLE else y.endswith("exact_match")
