"""The panels of the paper figures, drawn on given matplotlib axes from a run directory's values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator
from matplotlib.transforms import offset_copy

from patchscale.report.frames import distinct, means, where
from patchscale.report.theme import LIGHT, MARKERS, log_ticks, shades
from patchscale.report.verdict import words

NAMES = {
    "test_loss": "test loss",
    "train_flops": "training FLOPs",
    "seconds": "training time (s)",
    "peak_memory_bytes": "peak memory (GiB)",
    "samples": "samples seen",
    "tokens": "tokens",
}

End = tuple[float, float, str, str]
"""Where a line ends (x, y), its name and its colour."""
SYMBOLS = {"patch_size": "p", "kept_tokens": "K", "task.vision_tokens": "n"}


def law_panel(axes: Axes, points: pd.DataFrame, law: dict[str, Any] | None, x: str, y: str, colour: str) -> None:
    """Points in the colour of where they come from, with fit and interval band; log axes, ticks named by patch size."""
    if law and law.get("band"):
        band = {name: np.array(values, dtype=float) for name, values in law["band"].items()}
        axes.fill_between(band["x"], band["low"], band["high"], color=LIGHT["predicted"], alpha=0.15, linewidth=0)
        axes.plot(band["x"], band["y"], color=LIGHT["predicted"])
    axes.plot(
        points[x],
        points[y],
        linestyle="none",
        marker="o",
        markersize=4,
        markerfacecolor=colour,
        markeredgecolor="white",
        markeredgewidth=0.5,
    )
    log_scale(axes, "x", None)
    places = pd.DataFrame(points, columns=["tokens", "patch_size"]).drop_duplicates()
    if x == "tokens" and "patch_size" in points and len(distinct(places, "tokens")) == len(places):
        tokens, patches = (places[name].astype(int).tolist() for name in ("tokens", "patch_size"))
        axes.set_xticks(tokens, [f"{patch}\n{count:,}" for count, patch in zip(tokens, patches, strict=True)])
        axes.set_xlabel("patch size, tokens below")
    else:
        log_scale(axes, "x", x)
        axes.set_xlabel(name_of(x))


def curve_panel(axes: Axes, curves: pd.DataFrame, by: str, values: list[Any], x: str, y: str) -> list[End]:
    """Mean over random seeds (thick) over single seeds, one shade a value of the axis `by`; returns what names them."""
    ends: list[End] = []
    for value, colour in zip(values, shades(len(values), LIGHT), strict=True):
        part = where(curves, curves[by] == value)
        if part.empty:
            continue
        for _, one in part.groupby("trial", sort=False):
            axes.plot(one[x], one[y], color=colour, linewidth=0.6, alpha=0.35)
        mean = means(part, ["step"], [x, y]).sort_values("step")
        axes.plot(mean[x], mean[y], color=colour, marker=".", markersize=3)
        ends.append((mean[x].iloc[-1], mean[y].iloc[-1], in_words(by, value), colour))
    log_scale(axes, "x", x)
    axes.set_xlabel(name_of(x))
    return ends


def end_labels(axes: Axes, ends: list[End], apart: float = 0.075) -> None:
    """Names lines at their right ends, inside the panel and at least `apart` of its height from each other."""
    height = axes.transData - axes.transAxes
    lowest, highest = -apart, 1 - apart * (len(ends) - 1)
    for x, y, text, colour in sorted(ends, key=lambda end: end[1]):
        lowest = max(height.transform((x, y))[1], lowest + apart)
        axes.annotate(
            text,
            (x, y),
            xytext=(x, min(lowest, highest)),
            textcoords=offset_copy(axes.get_xaxis_transform(), fig=axes.get_figure(root=True), x=4, units="points"),
            va="center",
            fontsize=7.5,
            color=colour,
            annotation_clip=False,
        )
        highest += apart


def cost_panel(axes: Axes, table: pd.DataFrame, best: pd.DataFrame, models: list[str], cost: str, y: str) -> None:
    """Configurations by cost and quality: shape by model, shade by patch size, the Pareto set as a stepped line."""
    patches = sorted(distinct(table, "patch_size"), reverse=True)
    colours = dict(zip(patches, shades(len(patches), LIGHT), strict=True))
    unit = 2.0**30 if cost == "peak_memory_bytes" else 1.0
    axes.step(best[cost] / unit, best[y], where="post", color=LIGHT["ink"], linewidth=0.8, linestyle=(0, (4, 2)))
    for row in table.to_dict("records"):
        axes.plot(
            row[cost] / unit,
            row[y],
            marker=MARKERS[models.index(row["model"]) % len(MARKERS)],
            color=colours.get(row.get("patch_size"), LIGHT["measured"]),
            markersize=5.5,
            markeredgecolor="white",
            markeredgewidth=0.5,
            linestyle="none",
        )
    log_scale(axes, "x", cost)
    axes.set_xlabel(name_of(cost))


def difference_panel(axes: Axes, entries: list[dict[str, Any]], y: str) -> None:
    """Paired differences, finer minus coarser, with their intervals; open marks where the finer patch is worse."""
    for place, entry in enumerate(entries):
        if entry["difference"] is None:
            axes.text(0.02, place, "no seed in common", transform=axes.get_yaxis_transform(), va="center")
            continue
        if entry["low"] is not None:
            axes.plot([entry["low"], entry["high"]], [place, place], color=LIGHT["measured"])
        worse = entry["verdict"] == "inversion"
        face = LIGHT["page"] if worse else LIGHT["measured"]
        axes.plot(entry["difference"], place, marker="o", markersize=5, color=LIGHT["measured"], markerfacecolor=face)
    axes.axvline(0, color=LIGHT["soft"], linewidth=0.8, linestyle=(0, (2, 2)))
    axes.set_yticks(range(len(entries)), [f"{entry['from']} → {entry['to']}" for entry in entries])
    axes.set_ylim(len(entries) - 0.5, -0.5)
    axes.set_xlabel(f"change in {name_of(y)}")


def log_scale(axes: Axes, which: str, column: str | None) -> None:
    """Log scale with round ticks (plain digits); without a column the ticks are the caller's."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    (axes.set_xscale if which == "x" else axes.set_yscale)("log")
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    if column is not None:
        low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
        axis.set_major_locator(FixedLocator(log_ticks(low, high, 3 if which == "x" else 4)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))


def plain(value: float) -> str:
    """`0.05`, `1.2`, `5,000`, `2 M`, `$10^{12}$`-like counts as `5 T`."""
    for size, unit in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "K")):
        if value >= size:
            scale = 1e3 if unit == "K" else size
            return f"{value / scale:g} {unit}"
    return f"{value:,g}" if value < 1000 else f"{value:,.0f}"


def in_words(axis: str, value: Any) -> str:
    """An axis value: `48 px`, `$p$ = 8`, `decoder linear`."""
    if axis == "input_size":
        return f"{value} px"
    return f"${SYMBOLS[axis]}$ = {value}" if axis in SYMBOLS else f"{name_of(axis)} {value}"


def name_of(column: str) -> str:
    """A column in words."""
    return NAMES.get(column, words(column))
