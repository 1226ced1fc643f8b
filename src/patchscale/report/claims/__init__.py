"""Every claim of the papers with the study that answers it, what was measured here, and a verdict.

Verdicts are computed from the tables under `results/`, from shapes, from recipes, or from tests that hold them:
`make claims` writes them to `laws/tables/answers.csv`, which a wheel carries because it has no `results/`. Reading them
(`patchscale.laws.claims`) needs nothing of this.
"""

from patchscale.report.claims.answers import answers, rows
from patchscale.report.claims.evidence import Evidence, read_evidence
from patchscale.report.claims.page import claims_page

__all__ = ["Evidence", "answers", "claims_page", "read_evidence", "rows"]
