"""The guide names every form with its source and domain."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchscale import laws
from patchscale.laws.published_page import page

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_guide_lists_every_form():
    guide = (DOCS / "laws.md").read_text(encoding="utf-8")
    for form in laws.list_forms():
        formula = form.formula.format(
            **{name: name for name in form.names}, **{axis: f"{{{axis}}}" for axis in form.axes}
        )
        assert f"| `{form.name}` | `{formula}` | {', '.join(form.axes)} | {form.source} | {form.domain} |" in guide


@pytest.mark.slow
def test_published_page_is_what_its_command_writes():
    written = (DOCS / "published_laws.md").read_text(encoding="utf-8")
    rows = {line for line in written.splitlines() if line.startswith("| ")}
    now = {line for line in page().splitlines() if line.startswith("| ")}
    assert len(rows & now) > 0.9 * len(now), sorted(now - rows)[:5]
