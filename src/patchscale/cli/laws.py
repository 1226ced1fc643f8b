"""`patchscale fit` and `patchscale published`: laws on anyone's table, and the papers' numbers; no torch here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from patchscale.cli.app import app

if TYPE_CHECKING:
    from patchscale.laws import Law


@app.command(epilog="Example:  patchscale fit results.csv --x tokens --y test_loss --group model --form power_floor")
def fit(
    table: Annotated[Path, typer.Argument(help="CSV file with one row per measured point.")],
    x: Annotated[str, typer.Option(help="Column of the scaled quantity; several with commas.")] = "tokens",
    y: Annotated[str, typer.Option(help="Column of the loss or error, positive.")] = "test_loss",
    group: Annotated[str | None, typer.Option(help="One law per value of these columns, with commas.")] = None,
    form: Annotated[str, typer.Option(help="The law's form.")] = "power_floor",
    confidence: Annotated[float, typer.Option(help="Coverage of the intervals.")] = 0.9,
    bound: Annotated[float | None, typer.Option(help="Upper end of a score (1 or 100): fits bound - y.")] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Bootstrap draws printed beside the intervals.")] = 200,
    compare: Annotated[str | None, typer.Option(help="Compare these forms (with commas) instead.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Fit a law with honest uncertainty to a CSV table."""
    from patchscale import laws
    from patchscale.laws.table import read_csv

    frame = read_csv(table)
    axes, groups = x.split(","), group.split(",") if group else None
    if compare is not None:
        compared = laws.compare(frame, x=axes, y=y, forms=compare.split(","), group=groups, bound=bound)
        if as_json:
            print(json.dumps([found.to_dict() for found in compared], indent=2))
            return
        for found in compared:
            print(found.to_frame().to_string(index=False, na_rep=""))
            print(found.sentence)
        return
    found = laws.fit(
        frame, x=axes, y=y, group=groups, form=form, confidence=confidence, bound=bound, bootstrap=bootstrap
    )
    if as_json:
        print(json.dumps([{"group": law.group, **law.to_dict()} for law in found], indent=2))
        return
    for law in found:
        _print_law(law)


def _print_law(law: Law) -> None:
    """Formula, parameters with profile and bootstrap intervals, and the sentence."""
    name = " ".join(f"{key}={value}" for key, value in law.group.items())
    print(f"{name + ': ' if name else ''}{law.formula}")
    for key, param in law.params.items():
        line = f"  {key:<12} {param.value:<12.6g}"
        if param.identified:
            line += f" {law.confidence:.0%} interval {param.low:.6g} to {param.high:.6g}"
        else:
            line += f" not identified: {param.reason}"
        if param.bootstrap_low is not None and param.bootstrap_high is not None:
            line += f" (bootstrap {param.bootstrap_low:.6g} to {param.bootstrap_high:.6g})"
        print(line)
    print(f"  {law.sentence}")


@app.command(epilog="Example:  patchscale published 1")
def published(
    table: Annotated[str | None, typer.Argument(help="1 to 7, T1 to T3, vlm, vlm_fits; all of the main paper.")] = None,
    claims: Annotated[bool, typer.Option("--claims", help="Every claim of the papers, with our answer.")] = False,
    laws: Annotated[bool, typer.Option("--laws", help="Laws fitted to the published tables 1 to 5.")] = False,
    out: Annotated[Path | None, typer.Option(help="With --claims: write the claims page, HTML, instead.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Print published numbers, laws fitted to them, or the papers' claims beside what was measured here."""
    from patchscale import laws as room
    from patchscale.errors import InputError

    if sum((table is not None, claims, laws)) > 1:
        raise InputError("give one of a table, --claims and --laws")
    if out is not None and not claims:
        raise InputError("--out writes the claims page; add --claims")
    if claims:
        _claims(out, as_json)
        return
    frame = room.published_laws() if laws else room.published(table)
    if as_json:
        print(frame.to_json(orient="records", indent=2))
        return
    print(frame.to_string(index=False, na_rep="", max_colwidth=60))


def _claims(out: Path | None, as_json: bool) -> None:
    """Every claim with study, published and measured value, verdict and scale; or the page of them."""
    from patchscale.errors import InputError
    from patchscale.files import write_text
    from patchscale.laws.claims import claims

    table = claims()
    if out is not None:
        if out.is_dir() or not out.parent.is_dir():
            raise InputError(f"--out {out} cannot be written; give an HTML file in a folder that exists")
        from patchscale.report.claims import claims_page

        write_text(out, claims_page(table))
        print(f"claims: {out}")
        return
    if as_json:
        print(table.to_json(orient="records", indent=2))
        return
    for row in table.to_dict("records"):
        print(f"{row['id']}: {row['verdict'].upper()} ({row['study']}, {row['scale']})")
        print(f"  {row['statement']}")
        print(f"  published: {row['published'] or '-'}")
        print(f"  ours:      {row['measured']}")
    print(", ".join(f"{count} {verdict}" for verdict, count in table["verdict"].value_counts().items()))
