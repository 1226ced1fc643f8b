"""Every promise of the four papers beside its answer: the study, our value, a verdict, the scale.

The answers are package data (`tables/answers.csv`), computed from a checkout's `results/` by
`python -m patchscale.report.claims results docs/claims.md`; an installed package has no results to compute them from.
"""

from __future__ import annotations

from importlib import resources

import pandas as pd

from patchscale.errors import InputError
from patchscale.laws.published import published

COLUMNS = [
    "id", "source", "kind", "statement", "published", "study", "scale", "measured", "verdict", "evidence",
]  # fmt: skip


def claims() -> pd.DataFrame:
    """The papers' promises and our answers.

    Returns:
        One row a claim, all text (empty where there is none): `COLUMNS`. `verdict` is "reproduced", "not reproduced",
        "inconclusive", "not testable at this scale" or "not measured yet"; `scale` that of the study, or "counted",
        "configuration", "published", "test"; `evidence` the tables, functions or tests behind the verdict.

    Raises:
        InputError: the answers are missing or are of other claims.
    """
    promised = published("claims").rename(columns={"published_value": "published"}).astype({"published": "string"})
    file = resources.files("patchscale.laws").joinpath("tables", "answers.csv")
    if not file.is_file():
        raise InputError("no answers in this package; run `make claims` in a checkout")
    with file.open(encoding="utf-8") as opened:
        answers = pd.read_csv(opened)
    if list(answers["id"]) != list(promised["id"]):
        raise InputError("the answers are of other claims; run make claims in a checkout")
    return promised.merge(answers, on="id").fillna("").loc[:, COLUMNS]
