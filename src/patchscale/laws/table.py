"""From a user's table to arrays, with an error that names column, row and value when that is not possible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from patchscale.errors import InputError


def as_names(columns: str | Sequence[str] | None) -> list[str]:
    """A comma-separated text or a sequence of column names -> list; None -> empty."""
    if columns is None:
        return []
    if isinstance(columns, str):
        return [name.strip() for name in columns.split(",") if name.strip()]
    return list(columns)


def read_csv(path: Path | str) -> pd.DataFrame:
    """A table from a CSV file whose first line names the columns.

    Raises:
        InputError: there is no such file, or it cannot be read as a table.
    """
    if not Path(path).is_file():
        raise InputError(f"no table at {path}; give a CSV file such as a study's results.csv")
    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:  # what pandas and decoding raise are ValueErrors
        reason = str(error).strip()
        raise InputError(f"{path} is not a CSV table: {reason}; give a file whose first line names columns") from error


def need_columns(table: pd.DataFrame, names: Sequence[str]) -> None:
    """Raises InputError if a column is missing, listing those that exist."""
    for name in names:
        if name not in table.columns:
            raise InputError(f"no column {name!r} in the table; its columns are: {', '.join(map(str, table.columns))}")


def numbers(table: pd.DataFrame, name: str, *, positive: bool = True, below: float | None = None) -> np.ndarray:
    """Column `name` as [n] float64.

    Raises:
        InputError: a value is not a number, not finite, not positive (where asked) or not below `below`; the message
            names column, row (the table's index) and value.
    """
    need_columns(table, [name])
    column = table[name]
    values: np.ndarray = np.array(pd.Series(pd.to_numeric(column, errors="coerce")), dtype=float)
    bad = ~np.isfinite(values)
    why = "is not a finite number; repair or drop the row"
    if not bad.any() and positive:
        bad = values <= 0
        why = "is not positive, so it has no logarithm; repair or drop the row"
    if not bad.any() and below is not None:
        bad = values >= below
        why = f"is not below the bound {below:g}; check the bound (1 for fractions, 100 for percent)"
    if bad.any():
        place = int(np.flatnonzero(bad)[0])
        raise InputError(f"column {name!r}, row {table.index[place]}: {_plain(column.iloc[place])!r} {why}")
    return values


def split(table: pd.DataFrame, group: Sequence[str]) -> Iterator[tuple[dict, pd.DataFrame]]:
    """The table's parts by the values of the columns `group`, in order of appearance; the whole for no columns."""
    if not len(table):
        raise InputError("the table has no rows; nothing can be fitted")
    if not group:
        yield {}, table
        return
    need_columns(table, group)
    for values, part in table.groupby(list(group), sort=False, dropna=False):
        values = values if isinstance(values, tuple) else (values,)
        yield {name: _plain(value) for name, value in zip(group, values, strict=True)}, part


def describe(group: dict) -> str:
    """'model=deit_pico, input_size=32', or an empty text."""
    return ", ".join(f"{name}={value}" for name, value in group.items())


def _plain(value):
    return value.item() if isinstance(value, np.generic) else value
