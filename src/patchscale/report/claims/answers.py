"""All rows together: every claim of `laws/tables/claims.csv` with its answer."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from patchscale.laws import published
from patchscale.report.claims import patchification, repeated, sisters
from patchscale.report.claims.answer import Row
from patchscale.report.claims.evidence import Evidence


def rows() -> dict[str, Row]:
    """How every claim is answered, by its id."""
    return {**patchification.ROWS, **sisters.ROWS, **repeated.ROWS}


def answers(results: Sequence[Evidence]) -> pd.DataFrame:
    """Every claim's answer from these studies.

    Returns:
        One row a claim, in the order of `claims.csv`: id, study, scale, measured, verdict, evidence.
    """
    declared = rows()
    found = []
    for claim in published("claims")["id"]:
        answer = declared[claim].answer(results)
        found.append({"id": claim, "study": declared[claim].study, **vars(answer)})
    return pd.DataFrame(found, columns=["id", "study", "scale", "measured", "verdict", "evidence"])
