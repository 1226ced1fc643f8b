"""Learning curves: what tells the lines of a panel apart, and which test lines belong to a row of the result table."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from patchscale.report.frames import distinct, where
from patchscale.report.run import Run
from patchscale.studies.analysis import MEASURED_AXES


def line_axis(run: Run) -> str:
    """The axis that tells the lines of a panel apart; every other one has panels.

    The refinement if it varies; else the law's x if that is an axis which does.
    """
    request = run.study.get("laws", {})
    axes = [name for name in (run.refinement, request.get("x")) if name in run.study.get("axes", {})]
    return next((name for name in axes if len(distinct(run.results, name)) > 1), run.refinement)


def lines_of(run: Run, table: pd.DataFrame) -> dict[str, Any]:
    """The axis of a run's lines, and its values in a table from coarse to fine or from fewer to more."""
    axis = line_axis(run)
    known = [value for value in distinct(table, axis) if not pd.isna(value)]
    return {"axis": axis, "values": sorted(known, reverse=axis == "patch_size")}


def lines_by_study(runs: list[Run], table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """`lines_of` every study that rows may name."""
    return {str(study): lines_of(run, table) for run in runs for study in (run.name, *distinct(run.results, "study"))}


def own_lines(run: Run, axes: list[str], columns: list[str]) -> pd.DataFrame:
    """Columns of the test lines of every row of the result table, beside the row's axes.

    A trial that was measured at several values of an axis has a row for each, to which only the lines at it belong.
    """
    measured = [name for name in measured_axes(run.curves) if name in run.results]
    rows = run.results[list(dict.fromkeys(["trial", *axes, *measured]))]
    lines = run.curves[["trial", "step", *measured, *columns]]
    table = rows.merge(lines, on="trial", suffixes=("", "_of_line"))
    for name in measured:
        table = where(table, table[f"{name}_of_line"].isna() | (table[f"{name}_of_line"] == table[name]))
    return table


def curve_lists(curves: pd.DataFrame) -> dict[str, list[dict[str, Any]]]:
    """Learning curves by trial.

    Returns:
        For every trial, {"at": the value of an axis at which its model was measured (empty if at one only), "lines":
        one list a column, to seven significant digits} of each curve.
    """
    measured = measured_axes(curves)
    columns = [name for name in curves.columns if name not in ("trial", "step", *measured)]
    found: dict[str, list[dict[str, Any]]] = {}
    for _, part in curves.groupby(["trial", *measured], sort=False, dropna=False):
        first = part.iloc[0]
        at = {name: first[name] for name in measured if not pd.isna(first[name])}
        lines = {name: [_short(v) for v in part[name]] for name in columns if part[name].notna().to_numpy().any()}
        found.setdefault(str(first["trial"]), []).append({"at": at, "lines": lines})
    return found


def measured_axes(curves: pd.DataFrame) -> list[str]:
    """Axes along which one model was measured at several values."""
    return [name for name in MEASURED_AXES.values() if name in curves]


def _short(value: Any) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.7g}")
