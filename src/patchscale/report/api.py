"""`build`: run directories in, one HTML file out."""

from __future__ import annotations

from pathlib import Path

from patchscale.errors import InputError
from patchscale.files import write_text
from patchscale.report.page import render
from patchscale.report.payload import payload
from patchscale.report.run import read
from patchscale.training.outcome import writing


def build(run_dirs: list[Path], out: Path) -> Path:
    """Writes the report of one study, or of several as a merged set, as one self-contained HTML file.

    Args:
        run_dirs: run directories; trials are told apart by study when there are several.
        out: the file to write; its folder is made if missing.

    Returns:
        `out`.

    Raises:
        InputError: no directory given, one that is not a readable run directory, or `out` cannot be written.
    """
    if not run_dirs:
        raise InputError("no run directory given; name at least one folder that `patchscale study run` printed")
    page = render(payload([read(path) for path in run_dirs]))
    out = Path(out)
    with writing(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        write_text(out, page)
    return out
