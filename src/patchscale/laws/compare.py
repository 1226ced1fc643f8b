"""Which form? AICc and held-out error side by side, and a plain sentence on what the data cannot tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from patchscale.errors import InputError
from patchscale.laws.fitting import HUBER_DELTA, akaike, make_problem
from patchscale.laws.forms import Form, get_form
from patchscale.laws.held_out import finest, hold_out
from patchscale.laws.law import finite_or_none
from patchscale.laws.search import search
from patchscale.laws.solver import to_values
from patchscale.laws.table import as_names, describe, numbers, split

DEFAULT_FORMS = ("power", "power_floor", "log_linear", "quadratic_loglog")
INDISTINCT = 2.0


@dataclass(frozen=True)
class Comparison:
    """Forms fitted to the same points.

    Attributes:
        group: values of the group columns.
        rows: one per form, best AICc first: "form", "parameters", "aicc" (None without spare points), "delta" (to the
            best), "weight" (Akaike), "rms", "held_out_error" (mean relative error on the held-out points), "values",
            "starts", "note" (why a form could not be fitted; then the numbers are None).
        points: rows of the table.
        held_out_points: how many were held out.
        sentence: what follows from it.
    """

    group: dict
    rows: list[dict[str, Any]]
    points: int
    held_out_points: int
    sentence: str

    @property
    def best(self) -> tuple[str, str] | None:
        """(form, why): lowest AICc if every fitted form has one, else lowest held-out error; None if neither is
        known."""
        fitted = [row for row in self.rows if row["values"] is not None]
        if fitted and all(row["aicc"] is not None for row in fitted):
            return fitted[0]["form"], "AICc"
        tested = [row for row in fitted if row["held_out_error"] is not None]
        if not tested:
            return None
        return min(tested, key=lambda row: row["held_out_error"])["form"], "held-out error"

    def to_frame(self) -> pd.DataFrame:
        """The rows as a table, without the nested columns."""
        return pd.DataFrame(self.rows).drop(columns=["values", "starts"]).assign(**self.group)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "group": self.group,
            "rows": self.rows,
            "points": self.points,
            "held_out_points": self.held_out_points,
            "sentence": self.sentence,
        }


def compare(
    table: pd.DataFrame,
    x: str | Sequence[str] = "tokens",
    y: str = "test_loss",
    forms: Sequence[str | Form] = DEFAULT_FORMS,
    group: str | Sequence[str] | None = None,
    *,
    bound: float | None = None,
    space: str = "log",
    loss: str = "squared",
    huber_delta: float = HUBER_DELTA,
    weights: str | None = None,
    held_from: float | None = None,
    starts: int = 256,
    polish: int = 12,
) -> list[Comparison]:
    """Fits several forms to the same points of every group and compares them.

    Args:
        table, x, y, group, bound, space, loss, huber_delta, weights, starts, polish: as for `fit`.
        forms: names or forms, all over the same axes.
        held_from: points with a first axis of at least this are held out; the finest alone if None.

    Raises:
        InputError: as `fit`; a form with more parameters than points is no error but gets a note.
    """
    names, result = as_names(x), []
    for values, part in split(table, as_names(group)):
        rows, held_count = [], 0
        for name in forms:
            form = get_form(name)
            if len(form.axes) != len(names):
                raise InputError(f"form {form.name!r} needs {len(form.axes)} columns for x, got {', '.join(names)}")
            problem = make_problem(
                part, names, y, form, bound=bound, space=space, loss=loss, huber_delta=huber_delta, weights=weights
            )
            held = finest(problem) if held_from is None else numbers(part, names[0]) >= held_from
            held_count = int(held.sum())
            rows.append(_row(problem, held, starts, polish))
        _rank(rows)
        sentence = _sentence(rows, held_count, values)
        result.append(Comparison(values, rows, len(part), held_count, sentence))
    return result


def _row(problem, held: np.ndarray, starts: int, polish: int) -> dict[str, Any]:
    form = problem.form
    row: dict[str, Any] = {
        "form": form.name,
        "parameters": len(form.parameters),
        **dict.fromkeys(("aicc", "delta", "weight", "rms", "held_out_error", "values", "starts")),
        "note": "",
    }
    distinct = len(np.unique(np.stack([axis[0] for axis in problem.axes], axis=1), axis=0))
    if distinct < len(form.parameters):
        return {**row, "note": f"{len(form.parameters)} parameters, {distinct} distinct points"}
    best = search(problem, starts=starts, polish=polish)
    if not np.isfinite(best.cost):
        return {**row, "note": "no finite value at these points"}
    residual = problem.residuals(best.place[None, :])[0]
    test = hold_out(problem, 0.9, held=held, starts=starts, polish=polish, interval=False)
    values = to_values(form, best.place)
    return {
        **row,
        "aicc": finite_or_none(akaike(residual, problem.weights[0], len(best.place))),
        "rms": float(np.sqrt(np.mean(residual**2))),
        "held_out_error": test["relative_error"] if test else None,
        "values": {name: finite_or_none(value) for name, value in zip(form.names, values, strict=True)},
        "starts": {"searched": best.searched, "tried": best.tried, "agree": best.agree},
        "note": "" if test else "too few points to hold any out",
    }


def _rank(rows: list[dict[str, Any]]) -> None:
    rows.sort(key=lambda row: (row["aicc"] is None, row["aicc"] if row["aicc"] is not None else 0.0))
    known = [row for row in rows if row["aicc"] is not None]
    if not known:
        return
    odds = np.array([np.exp(-0.5 * (row["aicc"] - known[0]["aicc"])) for row in known])
    for row, share in zip(known, odds / odds.sum(), strict=True):
        row["delta"], row["weight"] = row["aicc"] - known[0]["aicc"], float(share)


def _sentence(rows: list[dict[str, Any]], held_count: int, group: dict) -> str:
    where = f"For {describe(group)}: " if group else ""
    known = [row for row in rows if row["aicc"] is not None]
    short = [row["form"] for row in rows if row["aicc"] is None and row["values"] is not None]
    tied = [row["form"] for row in known if row["delta"] < INDISTINCT]
    if not known:
        text = "too few points to compare forms by AICc"
    elif len(known) == 1:
        text = f"{known[0]['form']} alone has the points for AICc"
    elif len(tied) > 1:
        text = f"the data cannot tell {_and(tied)} apart (AICc within {INDISTINCT:g})"
    else:
        text = f"{tied[0]} fits best, by {known[1]['delta']:.1f} of AICc before {known[1]['form']}"
    if known and short:
        text += f"; too few points for the AICc of {_and(short)}"
    tested = sorted((row for row in rows if row["held_out_error"] is not None), key=lambda row: row["held_out_error"])
    if len(tested) > 1:
        what = f"the {held_count} finest points" if held_count > 1 else "the finest point"
        text += f"; held out, {tested[0]['form']} predicts {what} best"
        text += f" ({100 * tested[0]['held_out_error']:.2g} % error; "
        text += ", ".join(f"{row['form']} {100 * row['held_out_error']:.2g} %" for row in tested[1:]) + ")"
    return f"{where}{text}."


def _and(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
