"""The HTML file: template, styles, scripts, data and the plotly bundle put into one, so that nothing is ever loaded."""

from __future__ import annotations

import json
from importlib.resources import files
from string import Template
from typing import Any

from patchscale.report import theme

SCRIPTS = (
    "base.js",
    "figure.js",
    "law.js",
    "beside.js",
    "refinements.js",
    "repeats.js",
    "bases.js",
    "curves.js",
    "cost.js",
    "planner.js",
    "dense.js",
    "precision.js",
    "vision.js",
    "vision_published.js",
    "answers.js",
    "table.js",
    "about.js",
    "live.js",
    "app.js",
)


def render(data: dict[str, Any]) -> str:
    """The whole page for `payload`'s dictionary."""
    return Template(asset("page.html")).substitute(
        title=escape(data["title"]),
        policy=_policy(data["live"]),
        style=theme.css_variables() + asset("page.css"),
        plotly=asset("plotly-basic.min.js").replace("</script", "<\\/script"),
        script="(() => {\n'use strict';\n" + "\n".join(asset(name) for name in SCRIPTS) + "\n})();",
        data=embed(data),
    )


def embed(data: dict[str, Any]) -> str:
    """JSON that can stand inside a script element: no text of a study can end it or start another."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def escape(text: str) -> str:
    """Text as HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def asset(name: str) -> str:
    """A file of the package's `report/assets`."""
    return (files("patchscale.report") / "assets" / name).read_text(encoding="utf-8")


def _policy(live: bool) -> str:
    """What the browser may do: run the page's own scripts, and reach nothing (its own server, when live)."""
    connect = "'self'" if live else "'none'"
    return (
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
        f"img-src data: blob:; connect-src {connect}; base-uri 'none'; form-action 'none'"
    )
