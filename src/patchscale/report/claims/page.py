"""The claims as one self-contained HTML page in the report's style: published and measured in their own colours."""

from __future__ import annotations

import pandas as pd

from patchscale.report import theme
from patchscale.report.claims.answer import VERDICTS
from patchscale.report.claims.evidence import SCALES
from patchscale.report.page import asset, escape

PAPERS = {
    "patchification": "Scaling Laws in Patchification: An Image Is Worth 50,176 Tokens And More",
    "fewer-tokens": "Fewer Tokens, Greater Scaling",
    "vlm-token-scaling": "Scaling Capability in Token Space",
    "repeated-data": "Scaling Laws and Interpretability of Learning from Repeated Data",
}
MARKS = {
    "reproduced": "●",
    "not reproduced": "▲",
    "inconclusive": "◐",
    "not testable at this scale": "–",
    "not measured yet": "○",
}
MEANINGS = {
    "reproduced": "the pattern holds in our measurement beyond its 90 % interval, or a count or test agrees",
    "not reproduced": "the interval lies on the other side, or a count differs",
    "inconclusive": "the interval holds zero, there is one random seed, or parts disagree",
    "not testable at this scale": "it needs hardware, data or weights that are not here; the reason is given",
    "not measured yet": "the study is ready and has not been run, or nothing here measures it",
}
STYLE = """
.claims td { vertical-align: top; white-space: normal; overflow-wrap: anywhere; padding-right: 1rem; }
.claims th { vertical-align: bottom; }
.claims .published { color: var(--published); }
.claims .measured { color: var(--measured); }
.claims .predicted { color: var(--predicted); }
.claims .where { color: var(--soft); }
.claims .verdict { min-width: 8rem; font-weight: 600; }
.claims td:first-child { min-width: 15rem; }
.claims td.published { min-width: 6rem; }
.claims td.ours { min-width: 18rem; }
main section { padding-top: 2.5rem; }
@media (max-width: 48rem) {
  .claims thead { display: none; }
  .claims tr, .claims td { display: block; border: 0; padding: 0; min-width: 0 !important; }
  .claims tr { border-bottom: 1px solid var(--line); padding: .75rem 0; }
  .claims td.published:not(:empty)::before { content: "published: "; }
  .claims td.ours:not(:empty)::before { content: "ours: "; }
}
"""
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"
SCRIPT = """
const choice = document.getElementById("verdict");
choice.addEventListener("change", () => document.querySelectorAll("tr[data-verdict]").forEach((row) => {
  row.hidden = choice.value !== "" && row.dataset.verdict !== choice.value;
}));
"""


def claims_page(table: pd.DataFrame) -> str:
    """HTML of `patchscale.laws.claims()`; loads nothing from anywhere."""
    counts = {verdict: list(table["verdict"]).count(verdict) for verdict in VERDICTS}
    summary = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    sections = "".join(_section(name, table.loc[table["source"] == name, :]) for name in PAPERS)
    meanings = "".join(
        f"<li><strong>{MARKS[verdict]} {escape(verdict)}</strong>: {escape(MEANINGS[verdict])}</li>"
        for verdict in VERDICTS
    )
    options = "".join(f'<option value="{escape(verdict)}">{escape(verdict)}</option>' for verdict in VERDICTS)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>What the papers promise, and what was measured · patchscale</title>
<style>{theme.css_variables()}{asset("page.css")}{STYLE}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the claims</a>
<header class="bar"><span class="brand">patchscale</span><nav aria-label="Papers">{_links()}</nav></header>
<main id="main" tabindex="-1">
<section class="overview" aria-labelledby="title">
<h1 id="title">What the papers promise, and what was measured</h1>
<p class="lead">{len(table)} promises of four papers: {escape(summary)}.</p>
<div class="findings claims"><div><h2 class="minor">Verdicts</h2><ul>{meanings}</ul></div>
<div><h2 class="minor">Colours</h2><ul><li class="published">Published: printed in the papers.</li>
<li class="measured">Measured with this code. Models, images and budgets are far smaller than the papers', so patterns
are compared, not numbers.</li><li class="predicted">Predicted: counted from shapes, nothing was run.</li>
<li>Black: recipes, recomputed papers' numbers, and tests.</li></ul></div></div>
<p class="controls"><label for="verdict">show <select id="verdict"><option value="">all verdicts</option>{options}
</select></label></p>
</section>
{sections}
</main>
<footer>Computed from the tables under results/ by python -m patchscale.report.claims.</footer>
<script>{SCRIPT}</script>
</body>
</html>
"""


def _links() -> str:
    return "".join(f'<a href="#{name}">{escape(title.split(":")[0])}</a>' for name, title in PAPERS.items())


def _section(name: str, part: pd.DataFrame) -> str:
    lines = "".join(_line(row) for row in part.to_dict("records"))
    return f"""<section id="{name}" aria-labelledby="{name}-title">
<div class="head"><h2 id="{name}-title">{escape(PAPERS[name])}</h2></div>
<table class="full claims"><thead><tr><th scope="col">claim</th><th scope="col">published</th><th scope="col">ours</th>
<th scope="col">verdict</th></tr></thead><tbody>{lines}</tbody></table></section>
"""


def _line(row: dict[str, str]) -> str:
    verdict = escape(row["verdict"])
    where = f"{row['study']}, {row['scale']}" if row["scale"] != "none" else row["study"]
    evidence = f"<br>{escape(row['evidence'])}" if row["evidence"] else ""
    return (
        f'<tr id="{escape(row["id"])}" data-verdict="{verdict}"><td>{escape(row["statement"])}'
        f'<br><span class="where">{escape(row["id"])} · {escape(row["kind"])}</span></td>'
        f'<td class="published">{escape(row["published"].replace(";", "; "))}</td>'
        f'<td class="ours"><span class="{_colour(row)}">{escape(row["measured"])}</span><br>'
        f'<span class="where">{escape(where)}{evidence}</span></td>'
        f'<td class="verdict">{MARKS[row["verdict"]]} {verdict}</td></tr>\n'
    )


def _colour(row: dict[str, str]) -> str:
    """The class of our value: a study's scale means measured, counts from shapes are predictions."""
    if row["scale"] in SCALES:
        return "measured"
    return "predicted" if row["evidence"] == "patchscale.cost" else "told"
