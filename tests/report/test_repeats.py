"""A study of repeated data on the page and as a figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from patchscale.laws import repeated_data
from patchscale.report import build, figures
from tests.laws.test_repeated_data import curves_of, peaked, study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory of made-up losses with a worst number of repeats, and all that a study says of them."""
    path = tmp_path_factory.mktemp("repeats")
    table = study(peaked).assign(patch_size=6, input_size=24, tokens=16, task="classification", data="scenes")
    table.to_csv(path / "results.csv", index=False)
    for trial, lines in curves_of(table).groupby("trial"):
        (path / "trials" / str(trial)).mkdir(parents=True)
        lines = lines.sort_values("step").drop(columns="trial").assign(kind="test")
        text = lines.assign(samples=64 * lines["step"]).to_json(orient="records", lines=True)
        (path / "trials" / str(trial) / "metrics.jsonl").write_text(text)
    found = repeated_data(table, curves_of(table), group=["data.repeat_fraction"])
    (path / "laws.json").write_text(json.dumps({"y": "test_loss", "repeated_data": found}))
    return path


def test_the_page_holds_every_row_and_sentence(folder: Path, tmp_path: Path):
    page = build([folder], tmp_path / "report.html").read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    (entry,) = data["repeats"]
    assert len(entry["rows"]) == 4 * 7
    assert [model["verdict"] for model in entry["models"]] == ["peak"] * 4
    assert entry["group"] == {"data.repeat_fraction": 0.1}
    assert "function repeatSection()" in page


def test_the_figure_is_drawn_where_there_is_repetition(folder: Path, tmp_path: Path):
    written = {path.name: path for path in figures(folder, tmp_path)}
    text = written["repeats.svg"].read_text()
    assert text.count("effective size") == 1
    assert "repeats" in text


def test_copying_has_a_figure_and_panels_of_its_own(tmp_path: Path):
    """A study of language widths whose loss on copies was harmed: three panels, one of them of attention heads."""
    table = study(peaked).assign(patch_size=12, input_size=24, tokens=4, task="captioning", data="scenes")
    widths = {name: 16 * (place + 1) for place, name in enumerate(dict.fromkeys(table["model"]))}
    table = table.assign(
        **{"task.language_width": table["model"].map(widths), "model": "encoder"},
        first_saying_loss=table["test_loss"], copying_loss=table["test_loss"] / 10, answer_prefix_matching=0.2,
    )  # fmt: skip
    curves = curves_of(table).assign(first_saying_loss=1.0, copying_loss=0.1)
    curves = curves.assign(samples=64 * curves["step"])
    found = [
        entry
        for y in ("test_loss", "first_saying_loss", "copying_loss")
        for entry in repeated_data(table, curves, y, ["data.repeat_fraction"], model="task.language_width")
    ]
    run = tmp_path / "run"
    run.mkdir()
    table.to_csv(run / "results.csv", index=False)
    curves.to_csv(run / "learning_curves.csv", index=False)
    (run / "laws.json").write_text(json.dumps({"y": "test_loss", "repeated_data": found}))
    written = {path.name: path for path in figures(run, tmp_path / "figures")}
    assert written["copying.svg"].read_text().count("prefix matching") == 1
    assert {"repeats.svg", "copying.png"} <= written.keys()
    page = build([run], tmp_path / "report.html").read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert [entry["y"] for entry in data["repeats"]] == ["test_loss", "first_saying_loss", "copying_loss"]
    assert {row["model"] for row in data["repeats"][2]["rows"]} == {f"width {w}" for w in (16, 32, 48, 64)}
    assert all(row["answer_prefix_matching"] == pytest.approx(0.2) for row in data["repeats"][2]["rows"])
