"""The real page in a real Chromium: no error, no request, every panel has marks, every control does what it says.

Needs the `playwright` package and a Chromium (`CHROMIUM` or one on the path); axe-core is taken from `AXE_CORE` or from
`node_modules` beside the checkout (`npm install --no-save axe-core`). What is missing is named in the skip.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from patchscale.cost import DEVICES, plan
from patchscale.report import build
from patchscale.report.live import server
from tests.needs import absent

pytestmark = pytest.mark.browser

SECTIONS = ("overview", "law", "refinements", "curves", "cost", "planner", "tokens", "trials", "about")
MARKS = ".plot .scatterlayer .point, .plot .scatterlayer .js-line"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        absent("no Chromium: install one (Debian: apt-get install chromium) or name it in CHROMIUM")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path=found, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(run_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build([run_directory], tmp_path_factory.mktemp("report") / "report.html")


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Opens an address in a fresh context; fails the test on any console error or request that left the page."""
    contexts, complaints = [], []

    def open_page(target: Path | str, **settings: Any) -> Any:
        address = target.as_uri() if isinstance(target, Path) else target
        context = browser.new_context(**{"viewport": {"width": 1200, "height": 900}, **settings})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda note: complaints.append(note.text) if note.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: None if _own(request.url, address) else complaints.append(request.url))
        page.goto(address)
        page.wait_for_selector("#about")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def _own(url: str, address: str) -> bool:
    return url.startswith((address, "data:", "blob:"))


def violations(page) -> list[tuple[str, list[str]]]:
    """Accessibility rules that axe-core finds broken, each with its first places."""
    named = os.environ.get("AXE_CORE")
    axe = Path(named) if named else Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
    if not axe.is_file():
        absent("no axe-core: `npm install --no-save axe-core`, or name axe.min.js in AXE_CORE")
    page.evaluate(axe.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
    return [(rule["id"], [node["html"][:120] for node in rule["nodes"]][:3]) for rule in found]


def scroll_through(page: Any) -> None:
    """Brings every lazy figure near the screen once."""
    page.evaluate("document.querySelectorAll('.plot').forEach((plot) => plot.scrollIntoView({behavior: 'instant'}))")
    for place in range(page.locator(".plot").count()):
        page.locator(".plot").nth(place).scroll_into_view_if_needed()
    page.wait_for_function("[...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('.main-svg'))")


def fit_path(page: Any) -> str:
    return page.evaluate("document.querySelector('#law .plot').data.find((trace) => trace.name === 'fit').y.join()")


def test_every_panel_has_marks_and_says_what_it_shows(visit, report):
    page = visit(report)
    scroll_through(page)
    assert page.locator("main > section").evaluate_all("(all) => all.map((s) => s.id)") == list(SECTIONS)
    plots = page.locator(".plot")
    assert plots.count() == 7
    for place in range(plots.count()):
        assert plots.nth(place).locator(".point, .js-line").count() > 3
        assert len(plots.nth(place).get_attribute("aria-label")) > 40
    assert page.locator("#law .plot").first.locator(".point").count() == 12
    assert page.locator("#tokens img").evaluate_all("(all) => all.every((i) => i.complete && i.alt.length > 20)")


def test_the_planner_panel_is_the_planner_at_twenty_nodes(visit, report, run_directory):
    page = visit(report)
    grid = page.evaluate("JSON.parse(document.getElementById('data').textContent).planner")
    random = np.random.default_rng(3)
    choices = set()
    for _ in range(20):
        device = grid["devices"][int(random.integers(len(grid["devices"])))]
        counts = [n for n in grid["counts"] if n == 1 or not DEVICES[device["name"]].is_cpu]
        count, hours = int(random.choice(counts)), int(random.integers(len(grid["hours"])))
        target = int(random.integers(len(grid["targets"])))
        page.locator("#plan-device").select_option(label=device["title"])
        for name, place in (("count", grid["counts"].index(count)), ("hours", hours), ("target", target)):
            page.locator(f"#plan-{name}").evaluate(
                "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }", place
            )
        best = plan(
            device["name"], gpus=count, budget_hours=grid["hours"][hours], target=grid["targets"][target],
            data_size=grid["data_size"], table=run_directory / "results.csv",
        ).configurations[0]  # fmt: skip
        shown = page.locator("#plan-choice")
        assert shown.get_attribute("data-model") == best.model
        assert shown.get_attribute("data-patch") == str(best.patch_size)
        assert float(shown.get_attribute("data-predicted")) == pytest.approx(best.predicted, rel=1e-6)
        assert (page.locator("#plan-warnings").count() > 0) >= bool(best.outside)
        choices.add((best.model, best.patch_size))
    assert len(choices) > 1


def test_between_two_budgets_the_expectation_is_between(visit, report):
    page = visit(report)
    slide = "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }"
    values = []
    for place in (0, 0.5, 1):
        page.locator("#plan-hours").evaluate(slide, place)
        values.append(float(page.locator("#plan-choice").get_attribute("data-predicted")))
    assert min(values[0], values[2]) <= values[1] <= max(values[0], values[2])


def test_colours_of_provenance_never_mix(visit, report):
    page = visit(report, color_scheme="light")
    page.locator("#law-published").check()
    page.wait_for_function("document.querySelector('#law .plot').data")
    traces = page.evaluate(
        "document.querySelector('#law .plot').data.map((t) => [t.name, t.marker?.color ?? t.line?.color])"
    )
    colours = dict(traces)
    assert colours["published"] == "#7a2450"
    assert colours["measured"].startswith("rgba(31,111,180")
    assert "fit" not in colours  # no law was fitted to accuracies
    page.locator("#law .choice button", has_text="test loss").click()
    page.wait_for_function("document.querySelector('#law .plot').data")
    assert (
        dict(page.evaluate("document.querySelector('#law .plot').data.map((t) => [t.name, t.line?.color])"))["fit"]
        == "#c8500a"
    )
    assert not page.locator("#law-published").is_checked()


def test_switching_the_form_changes_curve_and_formula(visit, report, run_directory):
    page = visit(report)
    page.wait_for_selector("#law .main-svg")
    laws = json.loads((run_directory / "laws.json").read_text())["laws"]
    seen = {}
    for form in ("power_floor", "power"):
        page.locator("#law-form").select_option(form)
        page.wait_for_selector("#law .main-svg")
        seen[form] = fit_path(page)
        law = next(entry for entry in laws if entry["form"] == form)
        assert [float(y) for y in seen[form].split(",")] == law["band"]["y"]
        assert (
            page.locator("#law .formula")
            .first.inner_text()
            .startswith(law["formula"].split(" * ")[0].replace("_", " "))
        )
    assert seen["power"] != seen["power_floor"]


def test_curves_follow_the_chosen_budget(visit, report):
    page = visit(report)
    page.locator("#curves").scroll_into_view_if_needed()
    page.wait_for_selector("#curves .main-svg")
    ends = set()
    for budget in ("samples", "train_flops", "seconds"):
        page.locator(f'#curves [data-value="{budget}"]').click()
        ends.add(page.evaluate("Math.max(...document.querySelector('#curves .plot').data.flatMap((t) => t.x))"))
    assert len(ends) == 3


def test_refinements_of_two_studies_have_two_tables_and_absent_differences_no_mark(visit, run_directory, tmp_path):
    other = shutil.copytree(run_directory, tmp_path / "other")
    about = (other / "study.yaml").read_text()
    about = about.replace("name: synthetic", "name: other").replace("refinement: patch_size", "refinement: input_size")
    (other / "study.yaml").write_text(about)
    laws = json.loads((other / "laws.json").read_text())
    absent = {"pairs": 0, "difference": None, "low": None, "high": None, "verdict": "undecided"}
    laws["differences"] = [laws["differences"][0] | absent]
    (other / "laws.json").write_text(json.dumps(laws | {"y": "mask_loss"}))
    page = visit(build([run_directory, other], tmp_path / "both.html"))
    notes = [note.split(", paired")[0] for note in page.locator("#refinements .note").all_inner_texts()]
    differences = (
        "Difference in test loss, finer minus coarser patch",
        "Difference in mask loss, more minus fewer input",
    )
    assert notes == list(differences)
    (row,) = page.locator("#refinements table").nth(1).locator("tbody tr").all()
    assert "no seed in common" in row.inner_text()
    assert row.locator("line").count() == 1


def test_table_sorts_filters_and_opens_a_configuration(visit, report, run_directory):
    page = visit(report)
    with (run_directory / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    losses = sorted(float(row["test_loss"]) for row in rows)

    def shown() -> list[float]:
        return page.locator("#table tbody tr").evaluate_all(
            "(rows, i) => rows.map((row) => Number(row.children[i].dataset.value))", column
        )

    header = page.locator('#table [data-column="test_loss"]')
    column = header.evaluate("(button) => button.parentElement.cellIndex")
    header.click()
    assert shown() == losses
    assert header.locator("..").get_attribute("aria-sort") == "ascending"
    header.press("Enter")
    assert shown() == losses[::-1]
    page.locator("#filter").fill("adventurer patch_size=8")
    assert page.locator("#table tbody tr").count() == 3
    assert page.locator("#count").inner_text() == "3 of 24 trials"
    link = page.locator("#table tbody a").first
    trial = link.inner_text()
    link.click()
    dialog = page.locator("#trial")
    assert trial in dialog.inner_text()
    assert "recipe.learning_rate" in dialog.inner_text()
    page.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert page.evaluate("location.hash") == ""


def test_downloads_are_the_data(visit, report, run_directory, tmp_path):
    page = visit(report)
    page.locator("#filter").fill("patch_size=24")
    wanted = {"csv": None, "csv-filtered": 6, "csv-curves": 24 * 6}
    for button, count in wanted.items():
        with page.expect_download() as download:
            page.locator(f"#{button}").click()
        download.value.save_as(tmp_path / button)
        with (tmp_path / button).open() as file:
            rows = list(csv.DictReader(file))
        if count is None:
            assert (tmp_path / button).read_bytes() == (run_directory / "results.csv").read_bytes()
        else:
            assert len(rows) == count
            assert {"trial", "test_loss"} <= set(rows[0])


def test_phone_has_no_sideways_scroll_and_dark_is_dark(visit, report):
    page = visit(report, viewport={"width": 375, "height": 800}, color_scheme="dark", has_touch=True, is_mobile=True)
    scroll_through(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 28)"
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("document.querySelector('#law .plot').layout.font.color") == "#1b1d21"


def test_every_control_is_reached_by_keyboard(visit, report):
    page = visit(report)
    controls = page.evaluate(
        "document.querySelectorAll('a[href], button, select, input, summary, [tabindex=\"0\"]').length"
    )
    page.evaluate("document.addEventListener('focusin', (e) => { (window.seen ??= new Set()).add(e.target); })")
    for _ in range(controls + 5):
        page.keyboard.press("Tab")
    fields = "document.querySelectorAll('button, select, input:enabled, summary')"
    missed = page.evaluate(
        f"[...{fields}].filter((e) => e.checkVisibility() && !window.seen.has(e)).map((e) => e.outerHTML)"
    )
    assert missed == []


def test_print_draws_everything_on_white_paper(visit, report):
    page = visit(report, color_scheme="dark")
    content = page.pdf(prefer_css_page_size=True)
    assert content.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", content)) <= 12
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_five_hundred_trials_open_quickly(visit, large_run, tmp_path):
    page = visit(build([large_run], tmp_path / "large.html"))
    assert page.locator("#table tbody tr").count() == 500
    page.wait_for_selector("#law .main-svg")
    assert page.locator("#law .plot").count() == 20
    drawn = page.evaluate("document.querySelectorAll('.main-svg').length")
    assert drawn < 3 * 12, "figures far from the screen must wait"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(visit, report, scheme):
    page = visit(report, color_scheme=scheme)
    scroll_through(page)
    assert violations(page) == []


def test_live_page_shows_a_trial_that_ends(visit, make_run):
    folder = make_run(seeds=2, patches=(24, 12), inverted=None, forms=(), unfinished=1)
    with server(folder) as live:
        thread = threading.Thread(target=live.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            page = visit(live.url)
            assert "1 interrupted" in page.locator("#progress").inner_text()
            page.locator("#filter").fill("deit")
            trial = live.data()[1]["unfinished"][0]["trial"]
            other = json.loads(next(folder.glob("trials/*/result.json")).read_text())
            place = {"trial": trial, "model": "adventurer_pico_patch16", "patch_size": 12, "random_seed": 1}
            (folder / "trials" / trial / "result.json").write_text(json.dumps({**other, **place}))
            page.wait_for_selector("#progress", state="detached")
            page.wait_for_function("document.getElementById('live').textContent.includes('all trials finished')")
            assert page.locator("#filter").input_value() == "deit"
            assert page.locator("#filter").evaluate("(field) => field === document.activeElement")
            assert page.locator("#count").inner_text() == "4 of 8 trials"
        finally:
            live.shutdown()
            thread.join()
