"""Writes the answers to the papers' claims: `python -m patchscale.report.claims results docs/claims.md`."""

from __future__ import annotations

import sys
from importlib.resources import as_file, files
from pathlib import Path

from patchscale.files import write_text
from patchscale.laws.claims import claims
from patchscale.report.claims.answers import answers
from patchscale.report.claims.evidence import read_evidence
from patchscale.report.claims.guide import claims_guide


def main(folder: Path, guide: Path) -> None:
    """Computes every answer from the studies under `folder`, replaces the package's table and writes the guide."""
    found = answers(read_evidence(folder))
    with as_file(files("patchscale.laws") / "tables" / "answers.csv") as target:
        write_text(target, found.to_csv(index=False))
    write_text(guide, claims_guide(claims()))
    for verdict, count in found["verdict"].value_counts().items():
        print(f"{count:>4} {verdict}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m patchscale.report.claims FOLDER_OF_RESULTS GUIDE.md")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
