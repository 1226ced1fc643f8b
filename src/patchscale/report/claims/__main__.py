"""Writes the answers to the papers' claims: `python -m patchscale.report.claims results`."""

from __future__ import annotations

import sys
from importlib.resources import as_file, files
from pathlib import Path

from patchscale.files import write_text
from patchscale.report.claims.answers import answers
from patchscale.report.claims.evidence import read_evidence


def main(folder: Path) -> None:
    """Computes every answer from the studies under `folder` and replaces the package's table."""
    found = answers(read_evidence(folder))
    with as_file(files("patchscale.laws") / "tables" / "answers.csv") as target:
        write_text(target, found.to_csv(index=False))
    for verdict, count in found["verdict"].value_counts().items():
        print(f"{count:>4} {verdict}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m patchscale.report.claims FOLDER_OF_RESULTS")
    main(Path(sys.argv[1]))
