"""Published numbers beside ours: which studies have them, which values, and committed results as pages."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from patchscale.cli import app
from patchscale.laws import published
from patchscale.report.beside import panels, tables_of
from patchscale.report.run import read

RESULTS = Path(__file__).resolve().parents[2] / "results"


@pytest.mark.parametrize(
    ("source", "tables"),
    [
        ("Scaling Laws in Patchification, figure 1, tables 1 and 4", [1, 4]),
        ("Scaling Laws in Patchification, figure 1 (d) and table 2", [2]),
        ("Scaling Laws in Patchification, figure 3", []),
        ("Fewer Tokens, Greater Scaling, tables 1 to 3 (MDL and PEP)", []),
        ("", []),
    ],
)
def test_a_study_s_source_names_its_tables(source: str, tables: list[int]) -> None:
    assert tables_of(source) == tables


def test_values_are_the_printed_and_the_measured_ones() -> None:
    run = read(RESULTS / "tiny_imagenet")
    (panel,) = [one for one in panels(run, ["model", "patch_size"]) if one["table"] == 1]
    deit = next(series for series in panel["published"] if series["name"] == "DeiT-B 64")
    assert deit["tokens"] == [16, 64, 256, 1024, 4096]
    assert deit["value"] == [31.8, 23.1, 19.9, 19.2, 18.7]
    ours = next(series for series in panel["ours"] if series["name"].startswith("deit_pico"))
    means = run.results.query("model == 'deit_pico_patch16'").groupby("patch_size")["top1"].mean()
    assert ours["patch"] == [16, 8, 4, 2, 1]
    assert ours["value"] == pytest.approx([100 * (1 - means[patch]) for patch in ours["patch"]], rel=1e-4)
    assert not panel["predicted"]


def test_both_metrics_of_detection_and_assumed_pixels() -> None:
    found = panels(read(RESULTS / "nuclei"), ["model", "patch_size"])
    assert [panel["label"] for panel in found] == ["100 % less box AP, %", "100 % less mask AP, %"]
    tiny = next(series for series in found[0]["published"] if series["name"].startswith("Adventurer-T"))
    cells = published(3).query("model == 'Adventurer-T' and metric == 'box_ap'")
    assert tiny["tokens"] == pytest.approx(sorted(800 * 1333 / cells["patch"] ** 2))


def test_kept_results_make_one_page_with_their_curves(tmp_path: Path) -> None:
    """Nothing is refitted: results/ holds no trials, only what they left."""
    places = [str(RESULTS / name) for name in ("tiny_imagenet", "nuclei")]
    before = {name: (Path(name) / "laws.json").read_bytes() for name in places}
    done = CliRunner().invoke(app, ["study", "report", *places, "--out", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    assert {name: (Path(name) / "laws.json").read_bytes() for name in places} == before
    text = (tmp_path / "page.html").read_text()
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)
    assert found
    data = json.loads(found[1])
    assert {panel["study"] for panel in data["beside"]} == {"patchification", "detection"}
    assert set(data["curves"]) == {row[data["columns"].index("trial")] for row in data["rows"]}
    assert set(data["axes"]) == {"study", "model", "patch_size", "input_size", "tokens"} - {"tokens"}


def test_studies_of_other_axes_and_losses_make_one_page(tmp_path: Path) -> None:
    """Each lacks axes that another has; all that this repository keeps are put together."""
    places = sorted({str(file.parent) for file in RESULTS.rglob("study.yaml")})
    done = CliRunner().invoke(app, ["study", "report", *places, "--out", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    found = re.search(r'id="data">(.*?)</script>', (tmp_path / "page.html").read_text(), re.S)
    assert found
    data = json.loads(found[1])
    assert {row[data["columns"].index("study")] for row in data["rows"]} >= {"sequence_length", "repeated_data"}
    assert {"sequence_extension", "data.repeats"} <= set(data["axes"])


def test_a_study_without_a_source_has_no_panel(run_directory: Path) -> None:
    assert panels(read(run_directory), ["model", "patch_size"]) == []
