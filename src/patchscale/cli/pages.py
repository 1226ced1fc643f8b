"""`patchscale pages`: a folder of PDFs as a set of long page images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from patchscale.cli.app import app


@app.command(epilog="Example:  patchscale pages papers/ page-images/")
def pages(
    pdf_dir: Annotated[Path, typer.Argument(help="Folder with PDFs, or one PDF.")],
    out: Annotated[Path, typer.Argument(help="Folder of the set to write.")],
    width: Annotated[int, typer.Option(min=16, help="Pixels of every page.")] = 1200,
    max_height: Annotated[int, typer.Option(min=16, help="Pixels of a stitched image at most.")] = 30_000,
    patch: Annotated[int, typer.Option(min=1, help="Patch size of the token counts printed.")] = 16,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Stitch each PDF into one long image with a table of its pages and text lines."""
    from patchscale.data.pages import build_pages, load_documents
    from patchscale.errors import InputError

    if not pdf_dir.exists():
        raise InputError(f"no folder or PDF at {pdf_dir}")
    build_pages(pdf_dir, out, width=width, max_height=max_height, say=(lambda line: None) if as_json else print)
    made = []
    for document in load_documents(out):
        rows, cols = document.grid(patch)
        made.append({"doc": document.name, "pages": len(document.pages), "height": document.height})
        made[-1] |= {"width": document.width, "tokens": rows * cols}
    if as_json:
        print(json.dumps(made, indent=2))
        return
    total = sum(one["tokens"] for one in made)
    print(f"{len(made)} documents in {out}, {total} tokens of {patch} pixels, at most {max(m['tokens'] for m in made)}")
