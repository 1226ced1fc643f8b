"""Table operations with one return type each, which pandas' own signatures leave open."""

from __future__ import annotations

from typing import Any, cast

import pandas as pd


def distinct(table: pd.DataFrame, name: str) -> list[Any]:
    """Different values of a column in order of appearance; none if the table lacks it."""
    return list(table[name].drop_duplicates().tolist()) if name in table else []


def where(table: pd.DataFrame, keep: Any) -> pd.DataFrame:
    """Rows for which the boolean column `keep` holds."""
    return cast(pd.DataFrame, table.loc[keep])


def trials(table: pd.DataFrame) -> pd.DataFrame:
    """One row a trial: one that was measured at several values of an axis has a row for each."""
    return table.drop_duplicates("trial") if "trial" in table else table


def means(table: pd.DataFrame, by: list[str], columns: list[str]) -> pd.DataFrame:
    """Group means of `columns`, in order of appearance, with the group's size as `seeds`."""
    grouped = table.groupby(by, sort=False, dropna=False)
    frame = cast(pd.DataFrame, grouped[columns].mean())
    return frame.assign(seeds=grouped.size()).reset_index()
