"""The claims as a page of the documentation, Markdown."""

from __future__ import annotations

import pandas as pd

from patchscale.report.claims.answer import VERDICTS
from patchscale.report.claims.page import MARKS, MEANINGS, PAPERS


def claims_guide(table: pd.DataFrame) -> str:
    """Markdown of `patchscale.laws.claims.claims()`: one table a paper."""
    counts = {verdict: list(table["verdict"]).count(verdict) for verdict in VERDICTS}
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    lines = [
        "# Claims",
        "",
        f"Every promise of four papers, {len(table)} in all: {summary}.",
        "Written by `make claims`; `patchscale published --claims` prints the same, and `--out claims.html` makes a",
        "page of it. Models, images and budgets here are far smaller than the papers', so patterns are compared and",
        "numbers are not.",
        "",
        *(f"- {MARKS[verdict]} **{verdict}**: {MEANINGS[verdict]}" for verdict in VERDICTS),
    ]
    for source, title in PAPERS.items():
        lines += ["", f"## {title.split(':')[0]}", "", "| claim | published | ours | verdict |", "|---|---|---|---|"]
        lines += [_line(row) for row in table.loc[table["source"] == source, :].to_dict("records")]
    return "\n".join(lines) + "\n"


def _line(row: dict[str, str]) -> str:
    where = f"{row['study']}, {row['scale']}" if row["scale"] != "none" else row["study"]
    cells = (
        f"`{row['id']}` {row['statement']}",
        row["published"].replace(";", "; "),
        f"{row['measured']} ({where})",
        f"{MARKS[row['verdict']]} {row['verdict']}",
    )
    return "| " + " | ".join(cell.replace("|", "/").replace("_", "\\_").replace("*", "\\*") for cell in cells) + " |"
