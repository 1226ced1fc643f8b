"""Which rows of a user's table can be planned from: of registered models, trained alike, every number in place."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from patchscale.errors import InputError
from patchscale.laws.table import numbers, read_csv

TASK = "classification"
NEEDED = ("model", "patch_size", "input_size", "samples_seen")
PLAIN = {"sequence_extension": ("1", "1.0"), "reducer": ("none",), "model.options": ("{}",)}
"""Columns of what else changes a model or its tokens, and how they say that nothing does (as does an empty cell)."""
SETTINGS = ("init", "samples_seen", "steps")
PREFIXES = ("recipe.", "data.", "task.", "model.")
"""Columns of how a trial was trained, by name and by beginning."""


def read_table(table: pd.DataFrame | Path | str) -> pd.DataFrame:
    """The table, read from a CSV file unless it is one already."""
    return table if isinstance(table, pd.DataFrame) else read_csv(table)


def plannable_rows(table: pd.DataFrame, metric: str) -> tuple[pd.DataFrame, list[str]]:
    """The rows to plan from with columns size (height, width), tokens and value (loss or error); what was left out.

    Raises:
        InputError: another task than classification, several data sets, no row, a column that is missing, or a value in
            it that has no meaning (the message names column, row and value).
    """
    if others := sorted(set(map(str, table["task"])) - {TASK} if "task" in table.columns else []):
        raise InputError(
            f"the planner counts encoders with a linear head, not the models of {', '.join(others)}; give a table of "
            f"{TASK}"
        )
    missing = [name for name in (*NEEDED, metric) if name not in table.columns]
    if missing:
        raise InputError(f"the table lacks {', '.join(missing)}; it needs {', '.join((*NEEDED, metric))}")
    table, left_out = _plain_rows(table)
    if not len(table):
        but = f" but {'; '.join(left_out)}" if left_out else ""
        raise InputError(f"the table has no rows{but}; measure three patch sizes of one model")
    if "data" in table.columns:
        _need_one_value("data", table["data"])
    numeric = [name for name in ("patch_size", "samples_seen", "steps") if name in table.columns]
    table = table.assign(
        **{name: numbers(table, name) for name in numeric},
        model=table["model"].map(str),
        size=[parse_size(size) for size in table["input_size"]],
        value=_values(table, metric),
    )
    return table.assign(tokens=_tokens(table)), left_out


def need_same_settings(table: pd.DataFrame, where: str) -> None:
    """Raises InputError if the trials of one law, called `where`, were trained differently but for their patch size."""
    for name in table.columns:
        if name in SETTINGS or str(name).startswith(PREFIXES):
            _need_one_value(name, table[name], f" of {where}")


def parse_size(size: object) -> tuple[int, int]:
    """(height, width) from 224, "224" or "160x224"."""
    try:
        sides = [float(part) for part in str(size).lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or not all(side > 0 and side.is_integer() for side in sides):
        raise InputError(f"input_size {size!r} is not a number of pixels or HxW")
    return int(sides[0]), int(sides[-1])


def _plain_rows(table: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Rows of models as they are registered, with the tokens that their patches make; and which others there are."""
    left_out = []
    for name, plain in (PLAIN if "reducer" in table.columns else PLAIN | {"kept_tokens": ()}).items():
        if name not in table.columns:
            continue
        values = [str(value) for value in table[name]]
        usual = [value in (*plain, "nan") for value in values]
        if others := [value for value, same in zip(values, usual, strict=True) if not same]:
            found = ", ".join(dict.fromkeys(others))
            left_out.append(f"{len(others)} rows with {name} {found}, which plans do not count")
            table = table.loc[usual]
    return table, left_out


def _need_one_value(name: str, column: Iterable[object], where: str = "") -> None:
    values = list(dict.fromkeys(f"{value:.12g}" if isinstance(value, float) else str(value) for value in column))
    if len(values) > 1:
        raise InputError(f"{name} has {len(values)} values{where} ({', '.join(values)}): keep the rows of one")


def _tokens(table: pd.DataFrame) -> list[float]:
    """Patches of each row's input."""
    tokens = []
    for row, patch, (height, width) in zip(table.index, table["patch_size"], table["size"], strict=True):
        if patch % 1 or height % patch or width % patch:
            raise InputError(
                f"column 'patch_size', row {row}: {patch:g} does not divide {height}x{width} pixels; repair or drop "
                "the row"
            )
        tokens.append(height // patch * (width // patch))
    return tokens


def _values(table: pd.DataFrame, metric: str) -> np.ndarray:
    """The losses, or the errors."""
    if metric == "test_loss":
        return numbers(table, metric)
    whole = 100.0 if numbers(table, metric, positive=False).max() > 1 else 1.0
    return 1 - numbers(table, metric, positive=False, below=whole) / whole
