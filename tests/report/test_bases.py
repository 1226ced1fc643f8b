"""A study of kept tokens on the page and as a figure."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from patchscale.laws import kept_tokens
from patchscale.report import build, figures
from tests.laws.test_kept_tokens import study
from tests.report.test_browser import browser, scroll_through, visit  # noqa: F401


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of made-up losses in which larger models need fewer tokens, and what a study says of them."""
    path = tmp_path_factory.mktemp("bases")
    table = study(0.3).assign(patch_size=4, input_size=32, tokens=64, task="classification", data="scenes")
    table.insert(0, "trial", [f"t{row}" for row in range(len(table))])
    table.to_csv(path / "results.csv", index=False)
    (path / "laws.json").write_text(json.dumps({"y": "test_loss", "kept_tokens": kept_tokens(table)}))
    return path


def test_the_page_holds_what_the_study_says(folder: Path, tmp_path: Path):
    page = build([folder], tmp_path / "report.html").read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    said = json.loads((folder / "laws.json").read_text())["kept_tokens"]
    assert data["bases"]["minimum_tokens"] == said["minimum_tokens"]
    assert [test["sentence"] for test in data["bases"]["interaction"]] == [t["sentence"] for t in said["interaction"]]


def test_a_trial_with_many_rows_is_one_trial(folder: Path, tmp_path: Path):
    """As where one model serves every K: 3 sizes, 2 reducers and all tokens, 3 random seeds."""
    table = pd.read_csv(folder / "results.csv")
    names = table["model"] + table["reducer"] + table["random_seed"].astype(str)
    table.assign(trial=names, seconds=60.0, loss_drop_last_doubling=0.1).to_csv(tmp_path / "results.csv", index=False)
    page = build([tmp_path], tmp_path / "report.html").read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert dict(data["facts"]) | {"trials": "27", "training time, all trials": "27 min"} == dict(data["facts"])
    assert "(27 trials)" in data["verdict"]
    assert "All 27 learning curves" in data["verdict"]


def test_the_figure_has_a_panel_a_reducer(folder: Path, tmp_path: Path):
    written = {path.name: path for path in figures(folder, tmp_path)}
    text = written["bases.svg"].read_text()
    assert "(a) good" in text
    assert "(b) bad" in text
    assert "kept tokens K" in text
    assert "large" in text


@pytest.mark.browser
def test_the_panel_in_a_browser(visit, folder: Path, tmp_path: Path):  # noqa: F811
    page = visit(build([folder], tmp_path / "report.html"))
    scroll_through(page)
    assert page.locator("#bases .panels figure").count() == 2
    traces = "document.querySelector('#bases .plot').data"
    lines = page.evaluate(f"{traces}.filter((t) => t.mode === 'lines').map((t) => t.x)")
    assert lines == [[2, 4, 8, 16, 32]] * 3
    table = page.locator("#bases [aria-label='Fewest tokens']")
    said = json.loads((folder / "laws.json").read_text())["kept_tokens"]["minimum_tokens"]
    known = {(row["reducer"], row["group"]["model"], row["tolerance"], row["relative"]): row["tokens"] for row in said}
    for text, tolerance, relative in (("0.1", 0.1, False), ("5 %", 0.05, True)):
        page.locator(f"#bases .choice button[data-value='{text}']").click()
        cell = table.locator("tbody tr").first.locator("td").last.inner_text()
        assert cell.startswith(f"{known['good', 'large', tolerance, relative]:.3g} (")
    assert "interact" in page.locator("#bases .sentences").inner_text()
    assert page.locator("#bases [aria-label='Efficiency frontier'] tbody tr").count() > 3
