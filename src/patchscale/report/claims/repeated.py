"""How each promise of "Scaling Laws and Interpretability of Learning from Repeated Data" is answered."""

from __future__ import annotations

from patchscale.report.claims.answer import NotYet, Row, TooLarge

STUDIED = ("rep-design", "rep-double", "rep-midway", "rep-range", "rep-memorize", "rep-copying", "rep-induction")

ROWS: dict[str, Row] = {
    **{name: NotYet("repeated_data") for name in STUDIED},
    "rep-800m": TooLarge("repeated_data", "needs a language model of 800M parameters, its text and a GPU cluster"),
}
