"""`patchscale fit` and `patchscale published`: laws on anyone's table, and the papers' numbers; no torch here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from patchscale.cli.app import app


@app.command(epilog="Example:  patchscale fit results.csv --x tokens --y test_loss --group model --form power_floor")
def fit(
    table: Annotated[Path, typer.Argument(help="CSV file with one row per measured point.")],
    x: Annotated[str, typer.Option(help="Column of the scaled quantity; several with commas.")] = "tokens",
    y: Annotated[str, typer.Option(help="Column of the loss or error, positive.")] = "test_loss",
    group: Annotated[str | None, typer.Option(help="One law per value of these columns, with commas.")] = None,
    form: Annotated[str, typer.Option(help="The law's form.")] = "power_floor",
    confidence: Annotated[float, typer.Option(help="Coverage of the intervals.")] = 0.9,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Fit a law with honest uncertainty to a CSV table."""
    import pandas as pd

    from patchscale import laws
    from patchscale.errors import InputError

    if not table.is_file():
        raise InputError(f"no table at {table}; give a CSV file")
    try:
        frame = pd.read_csv(table)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{table} is not a CSV table: {error}") from error
    columns = x.split(",")
    found = laws.fit(
        frame,
        x=columns[0] if len(columns) == 1 else columns,
        y=y,
        group=group.split(",") if group else None,
        form=form,
        confidence=confidence,
    )
    if as_json:
        print(json.dumps([{"group": law.group, **law.to_dict()} for law in found], indent=2))
        return
    for law in found:
        name = " ".join(f"{key}={value}" for key, value in law.group.items())
        print(f"{name + ': ' if name else ''}{law.formula}")
        for key, param in law.params.items():
            interval = f"{param.low:.6g} to {param.high:.6g} ({confidence:.0%})"
            print(
                f"  {key:<12} {param.value:.6g}  {interval if param.identified else 'not identified: ' + param.reason}"
            )
        print(f"  {law.sentence}")


@app.command(epilog="Example:  patchscale published 1")
def published(
    table: Annotated[str | None, typer.Argument(help="1 to 7, T1 to T3, vlm, vlm_fits; all of the main paper.")] = None,
    claims: Annotated[bool, typer.Option("--claims", help="Every claim of the papers, a row each.")] = False,
    laws: Annotated[bool, typer.Option("--laws", help="Laws fitted to the published tables 1 to 5.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Print published numbers, the papers' claims, or laws fitted to them; none of these was measured here."""
    from patchscale import laws as room
    from patchscale.errors import InputError

    if sum((table is not None, claims, laws)) > 1:
        raise InputError("give one of a table, --claims and --laws")
    frame = room.published_laws() if laws else room.published("claims" if claims else table)
    if as_json:
        print(frame.to_json(orient="records", indent=2))
        return
    print(frame.to_string(index=False, na_rep="", max_colwidth=60))
