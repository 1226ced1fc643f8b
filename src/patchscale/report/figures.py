"""Figures for papers: law, learning curves, cost, differences and repetition of one run directory, as SVG and PNG."""

from __future__ import annotations

import io
import math
import string
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from patchscale.errors import InputError
from patchscale.files import write_bytes
from patchscale.report.bases import kept_panel, reducers_of
from patchscale.report.curves import lines_of, own_lines
from patchscale.report.draw import (
    End,
    cost_panel,
    curve_panel,
    difference_panel,
    end_labels,
    in_words,
    law_panel,
    log_scale,
    name_of,
)
from patchscale.report.frames import distinct, where
from patchscale.report.pareto import configurations, pareto
from patchscale.report.payload import axis_columns, model_labels
from patchscale.report.repeats import loss_panel, matching_panel, size_panel
from patchscale.report.run import Run, read
from patchscale.report.theme import COUNTED, LIGHT, MARKERS, matplotlib_style
from patchscale.report.vision_figure import drawn_curves, forms_of, own_group, vision_handles, vision_panel
from patchscale.studies.analysis import COPIED

COSTS = ("train_flops", "seconds", "peak_memory_bytes")
GROUP = ("model", "input_size")  # what panels differ in, if nothing else
WIDTH = 6.75  # inches: the text width of a two-column paper
CHARACTERS = 114  # of a panel's title in `WIDTH`
METADATA = {"svg": {"Date": None, "Creator": "patchscale"}, "png": {"Software": "patchscale"}}


def figures(run_dir: Path, out_dir: Path) -> list[Path]:
    """Writes `law`, `differences`, `repeats`, `copying`, `bases`, `vision`, `curves`, `cost`: those with data.

    Each as .svg and .png.

    Args:
        run_dir: a run directory with finished trials.
        out_dir: the folder for the files, made if missing.

    Returns:
        The files written. Equal data give byte-identical files.

    Raises:
        InputError: not a run directory, or no trial has finished.
    """
    run = read(run_dir)
    if run.results.empty:
        raise InputError(f"{run_dir} has no finished trial to draw; run the study first")
    out_dir = Path(out_dir)
    out_dir.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    with matplotlib.rc_context(matplotlib_style()):
        for make in (law, differences, repeats, copying, bases, vision, curves, cost):
            name, figure = make.__name__, make(run)
            if figure is not None:
                written += save(figure, out_dir / name)
    return written


def law(run: Run) -> Figure | None:
    """One panel per group of the law, or per model and input size where none was fitted."""
    y = run.laws.get("y", "test_loss")
    if y not in run.results:
        return None
    fitted = [entry for entry in run.laws.get("laws", []) if isinstance(entry["x"], str) and entry["y"] == y]
    first = fitted[0]["form"] if fitted else None
    chosen = [entry for entry in fitted if entry["form"] == first]
    x = chosen[0]["x"] if chosen else "tokens"
    groups = [entry["group"] for entry in chosen] or _groups(run.results, GROUP)
    colour, called = (LIGHT["predicted"], COUNTED) if run.counted else (LIGHT["measured"], "measured")
    figure, panels = grid(len(groups))
    for place, (axes, group) in enumerate(zip(panels, groups, strict=True)):
        entry = chosen[place] if chosen else None
        law_panel(axes, _rows(run.results, group), entry, x, y, colour)
        caption(axes, place, title(run, group))
    share(panels, y)
    handles: list[Artist] = [Line2D([], [], linestyle="none", marker="o", markersize=4, color=colour, label=called)]
    if chosen:
        handles.append(Line2D([], [], color=LIGHT["predicted"], label=f"fit ({chosen[0]['form'].replace('_', ' ')})"))
        percent = f"{100 * chosen[0]['confidence']:g} % interval"
        handles.append(Patch(color=LIGHT["predicted"], alpha=0.15, linewidth=0, label=percent))
    legend(figure, handles)
    return figure


def differences(run: Run) -> Figure | None:
    """What each refinement changed, one panel per group."""
    entries = run.laws.get("differences", [])
    groups = _distinct([entry["group"] for entry in entries])
    if not groups:
        return None
    figure, panels = grid(len(groups), height=1.7)
    for place, (axes, group) in enumerate(zip(panels, groups, strict=True)):
        difference_panel(axes, [entry for entry in entries if entry["group"] == group], run.laws["y"])
        caption(axes, place, title(run, group))
        if place % _columns(len(groups)) == 0:
            axes.set_ylabel(name_of(run.refinement))
    low, high = min(axes.get_xlim()[0] for axes in panels), max(axes.get_xlim()[1] for axes in panels)
    for axes in panels:
        axes.set_xlim(low, high)
    return figure


def repeats(run: Run) -> Figure | None:
    """Test loss over repeats, and effective model size below it, one column per group."""
    y = run.laws.get("y", "test_loss")
    found = [entry for entry in run.laws.get("repeated_data", []) if entry["rows"] and entry["y"] == y]
    if not found:
        return None
    labels = model_labels(distinct(run.results, "model"))
    sized = [entry for entry in found if any(row["effective_size"] for row in entry["rows"])]
    varied = [name for name in found[0]["group"] if len({str(entry["group"][name]) for entry in found}) > 1]
    figure, panels = grid(len(found) + len(sized))
    ends = []
    for place, (axes, entry) in enumerate(zip(panels, [*found, *sized], strict=True)):
        words = ", ".join(f"{name.rpartition('.')[2]} {entry['group'][name]}" for name in varied)
        ends.append((loss_panel if place < len(found) else size_panel)(axes, entry["rows"], labels))
        caption(axes, place, words)
    share(panels[: len(found)], found[0]["y"], ends)
    for axes, own in zip(panels[len(found) :], ends[len(found) :], strict=True):
        log_scale(axes, "y", "share")
        end_labels(axes, own)
        axes.set_ylabel("effective size / size")
    return figure


def copying(run: Run) -> Figure | None:
    """Loss on the first saying of an answer and on its copies over repeats, and the prefix matching of heads."""
    found = [entry for entry in run.laws.get("repeated_data", []) if entry["rows"] and entry["y"] in COPIED]
    if not found:
        return None
    labels = model_labels(distinct(run.results, "model"))
    figure, panels = grid(len(found) + 1)
    for place, (axes, entry) in enumerate(zip(panels, found, strict=False)):
        ends = loss_panel(axes, entry["rows"], labels)
        log_scale(axes, "y", entry["y"])
        end_labels(axes, ends)
        caption(axes, place, name_of(entry["y"]))
    end_labels(panels[-1], matching_panel(panels[-1], found[-1]["rows"], labels))
    caption(panels[-1], len(found), "prefix matching")
    return figure


def bases(run: Run) -> Figure | None:
    """Quality over kept tokens, one panel per reducer."""
    y, reducers = run.laws.get("y", "test_loss"), reducers_of(run.results)
    if not reducers or y not in run.results:
        return None
    labels = model_labels(distinct(run.results, "model"))
    figure, panels = grid(len(reducers))
    ends = []
    for place, (axes, reducer) in enumerate(zip(panels, reducers, strict=True)):
        ends.append(kept_panel(axes, run.results, reducer, y, labels))
        caption(axes, place, reducer)
    share(panels, y, ends)
    return figure


def vision(run: Run) -> Figure | None:
    """Answers over vision tokens with every law, one panel per kind of question and group of trials."""
    shown = drawn_curves(run)
    if not shown:
        return None
    figure, panels = grid(len(shown))
    forms = forms_of(shown)
    for place, (axes, curve) in enumerate(zip(panels, shown, strict=True)):
        vision_panel(axes, run, curve, forms)
        caption(axes, place, title(run, own_group(curve, shown)))
    legend(figure, vision_handles(forms))
    return figure


def curves(run: Run) -> Figure | None:
    """Test loss over samples, lines along one axis, a panel for each value of the others."""
    y = run.laws.get("y", "test_loss")
    by, values = lines_of(run, run.results).values()
    if run.curves.empty or y not in run.curves or by not in run.results:
        return None
    varied = [name for name in axis_columns(run.results, run.curves) if len(distinct(run.results, name)) > 1]
    names = [name for name in dict.fromkeys([*GROUP, *varied]) if name in run.results and name != by]
    table = own_lines(run, [*names, by], ["samples", y])
    groups = _groups(table, names)
    figure, panels = grid(len(groups))
    ends = []
    for place, (axes, group) in enumerate(zip(panels, groups, strict=True)):
        ends.append(curve_panel(axes, _rows(table, group), by, values, "samples", y))
        caption(axes, place, title(run, group))
    share(panels, y, ends)
    return figure


def cost(run: Run) -> Figure | None:
    """Quality over FLOPs, time and memory with the Pareto set."""
    y = run.laws.get("y", "test_loss")
    known = [name for name in COSTS if name in run.results and run.results[name].notna().to_numpy().any()]
    if not known or y not in run.results:
        return None
    names = axis_columns(run.results, run.curves)
    means = _by_kind(configurations(run.results, names, y), names)
    models = distinct(means, "model")
    figure, panels = grid(len(known))
    for place, (axes, name) in enumerate(zip(panels, known, strict=True)):
        cost_panel(axes, means, pareto(means, name, y), models, name, y)
        caption(axes, place, "")
    share(panels, y)
    shape = {"linestyle": "none", "markersize": 5, "color": LIGHT["measured"]}
    handles = [Line2D([], [], marker=MARKERS[i % len(MARKERS)], label=m, **shape) for i, m in enumerate(models)]
    handles.append(Line2D([], [], color=LIGHT["ink"], linewidth=0.8, linestyle=(0, (4, 2)), label="Pareto set"))
    legend(figure, handles)
    return figure


def grid(count: int, height: float = 2.1) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels, at most three a row."""
    columns = _columns(count)
    rows = math.ceil(count / columns)
    width = WIDTH if columns > 1 else WIDTH / 2
    figure = Figure(figsize=(width, height * rows + 0.3), layout="constrained")
    panels = [figure.add_subplot(rows, columns, place + 1) for place in range(count)]
    return figure, panels


def share(panels: list[Axes], y: str, ends: Sequence[list[End]] = ()) -> None:
    """One log range of all positive y, so that heights can be compared; then each panel's lines are named."""
    low = min(axes.dataLim.minposy for axes in panels)
    high = max(axes.dataLim.ymax for axes in panels)
    columns = _columns(len(panels))
    for place, axes in enumerate(panels):
        if high >= low:
            air = (high / low) ** 0.05
            axes.set_ylim(low / air, high * air)
            log_scale(axes, "y", y)
        if place % columns == 0:
            axes.set_ylabel(name_of(y))
    for axes, own in zip(panels, ends, strict=False):
        end_labels(axes, own)


def caption(axes: Axes, place: int, text: str) -> None:
    """`(a) deit_pico, 48 px` above the panel, within its width."""
    spec = axes.get_subplotspec()
    room = CHARACTERS // max(spec.get_gridspec().ncols if spec else 1, 2)
    axes.set_title(textwrap.fill(f"({string.ascii_lowercase[place % 26]}) {text}".rstrip(), room), loc="left")


def legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """One legend for all panels, above them."""
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), handlelength=1.6, columnspacing=1.5)


def save(figure: Figure, stem: Path) -> list[Path]:
    """Writes `stem`.svg and `stem`.png, whole or not at all."""
    written = []
    for kind in ("svg", "png"):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata=METADATA[kind])
        path = stem.with_suffix(f".{kind}")
        write_bytes(path, buffer.getvalue())
        written.append(path)
    return written


def title(run: Run, group: dict[str, Any]) -> str:
    """A group in words, without what all groups share."""
    labels = model_labels(distinct(run.results, "model"))
    texts = [labels.get(value, value) if name == "model" else in_words(name, value) for name, value in group.items()]
    return ", ".join(map(str, texts)).replace("$", "")  # a formula would change the face of the whole title


def _columns(count: int) -> int:
    return count if count <= 3 else 2 if count == 4 else 3


def _groups(table: pd.DataFrame, names: Sequence[str]) -> list[dict[str, Any]]:
    return pd.DataFrame(table[[name for name in names if name in table]].drop_duplicates()).to_dict("records")


def _by_kind(means: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Configurations whose `model` says in words what their shape stands for: also other axes, if shapes suffice."""
    labels = model_labels(distinct(means, "model"))
    models = pd.Series([labels[name] for name in means["model"]], index=means.index)
    others = [name for name in names if name not in ("model", "patch_size", "input_size")]
    kinds = models.str.cat([means[name].astype(str) for name in others], sep=", ") if others else models
    return means.assign(model=kinds if len(set(kinds)) <= len(MARKERS) else models)


def _rows(table: pd.DataFrame, group: dict[str, Any]) -> pd.DataFrame:
    keep = pd.Series(True, index=table.index)
    for name, value in group.items():
        keep &= table[name].astype(str) == str(value)
    return where(table, keep)


def _distinct(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [group for place, group in enumerate(groups) if group not in groups[:place]]
