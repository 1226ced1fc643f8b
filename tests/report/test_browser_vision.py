"""The panels of vision tokens in a real Chromium; needs what `test_browser.py` needs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from patchscale.report import build
from tests.report.test_browser import browser, scroll_through, violations, visit  # noqa: F401
from tests.report.vision_study import COUNTS, write_vision_run

pytestmark = pytest.mark.browser
TRACES = "document.querySelector('{} .plot').data.map((t) => [t.name, t.marker?.color ?? t.line?.color])"


@pytest.fixture(scope="module")
def vision_run(tmp_path_factory) -> Path:
    return write_vision_run(tmp_path_factory.mktemp("vision") / "run")


@pytest.fixture(scope="module")
def page_file(vision_run, tmp_path_factory) -> Path:
    return build([vision_run], tmp_path_factory.mktemp("report") / "report.html")


def test_every_law_is_drawn_over_the_measured_points(visit, page_file, vision_run):  # noqa: F811
    page = visit(page_file)
    scroll_through(page)
    curves = json.loads((vision_run / "laws.json").read_text())["vision_tokens"]
    shown = [curve for curve in curves if curve["y"] == "dense_token_accuracy"]
    assert page.locator("#vision .panels").first.locator("figure").count() == len(shown) == 2
    data = page.evaluate("document.querySelector('#vision .plot').data.map((t) => ({name: t.name, x: t.x, y: t.y}))")
    laws = {law["form"].replace("_", " "): law["curve"] for law in shown[0]["laws"] if law["curve"]}
    assert {line["name"]: line["y"] for line in data[:-1]} == {form: curve["y"] for form, curve in laws.items()}
    assert sorted(set(data[-1]["x"])) == list(COUNTS)
    low, high = (f"{100 * shown[0]['rise'][end]:+.3g}" for end in ("low", "high"))
    assert f"points, 90 % interval {low} to {high})" in page.locator("#vision figcaption").first.inner_text()


def test_one_model_has_a_learning_curve_at_every_n(visit, page_file):  # noqa: F811
    page = visit(page_file)
    scroll_through(page)
    assert page.locator("#curves h3").all_inner_texts() == [
        f"deit_atto · p 8 · protocol {name}" for name in ("nested", "one_each")
    ]
    names = (
        "[...document.querySelectorAll('#curves .plot')].map((p) => p.layout.annotations.slice(1).map((a) => a.text))"
    )
    assert page.evaluate(names) == [[f"vision tokens {n}" for n in reversed(COUNTS)]] * 2


def test_another_score_is_another_curve(visit, page_file):  # noqa: F811
    page = visit(page_file)
    page.locator("#vision-score").select_option("colour_exact_match")
    page.wait_for_selector("#vision .main-svg")
    assert page.locator("#vision .plot").first.get_attribute("aria-label").startswith("colour answers exactly right")
    assert page.evaluate("document.activeElement.id") == "vision-score"


def test_published_measured_and_fitted_are_three_colours(visit, page_file):  # noqa: F811
    page = visit(page_file, color_scheme="light")
    scroll_through(page)
    published = dict(page.evaluate(TRACES.format("#published")))
    assert published["published"] == published["published fit"] == "#7a2450"
    fitted = {colour for name, colour in published.items() if not name.startswith("published")}
    assert all(colour.startswith("rgba(200,80,10") for colour in fitted)
    assert len(published) == 7
    assert page.locator("#fits tr.published").count() == 36
    assert page.locator("#fits tr.measured").count() == 6
    colour = "(e) => getComputedStyle(e).color"
    page.locator("#published summary").click()
    assert page.locator("#fits tr.published td").first.evaluate(colour) == "rgb(122, 36, 80)"
    assert page.locator("#fits tr.measured td").first.evaluate(colour) == "rgb(31, 111, 180)"
    page.locator("#published-metric").select_option("Final Score@OCRBench")
    page.wait_for_selector("#published .main-svg")
    assert "60.27" in page.locator("#published .published").first.inner_text()
    page.locator('#published [data-value="vq_ft"]').click()
    assert "50.3" in page.locator("#published .published").first.inner_text()


def test_answers_stand_beside_the_truth_at_every_n(visit, page_file):  # noqa: F811
    page = visit(page_file)
    first = page.locator("#answers .example").first
    picture = first.locator("img")
    assert picture.get_attribute("src").startswith("data:image/png;base64,")
    assert picture.evaluate("(image) => getComputedStyle(image).imageRendering") == "pixelated"
    assert picture.get_attribute("alt") == "Test image 1."
    assert first.locator("thead th").all_inner_texts()[-3:] == [f"n = {n}" for n in COUNTS]
    assert first.locator("tbody tr").first.locator("td").all_inner_texts() == [
        "red blue", "red red", "✓ red blue", "✓ red blue",
    ]  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit, page_file, scheme):  # noqa: F811
    page = visit(page_file, color_scheme=scheme)
    scroll_through(page)
    page.locator("#published summary").click()
    assert violations(page) == []


def test_a_phone_has_no_sideways_scroll(visit, page_file):  # noqa: F811
    page = visit(page_file, viewport={"width": 375, "height": 800}, has_touch=True, is_mobile=True)
    scroll_through(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
