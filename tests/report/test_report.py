"""The page's data equal the run directory's files, and the page is one closed file."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from patchscale.errors import InputError
from patchscale.report import build
from patchscale.report.payload import model_labels, payload, split_configs
from patchscale.report.planner import planner_grid
from patchscale.report.run import read


def data_of(page: Path) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.S)
    assert found
    return json.loads(found.group(1))


@pytest.fixture(scope="module")
def page(run_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build([run_directory], tmp_path_factory.mktemp("page") / "deep" / "report.html")


def test_rows_equal_results_csv(page, run_directory):
    data = data_of(page)
    with (run_directory / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(data["rows"]) == len(rows) == 24
    for shown, row in zip(data["rows"], rows, strict=True):
        for name, value in zip(data["columns"], shown, strict=True):
            assert (float(row[name]) == value) if isinstance(value, int | float) else (row[name] == value), name
    assert data["csv"] == (run_directory / "results.csv").read_text()


def test_laws_differences_and_crossings_equal_laws_json(page, run_directory):
    data, laws = data_of(page), json.loads((run_directory / "laws.json").read_text())
    assert len(laws["laws"]) == 4
    assert data["laws"] == laws["laws"]
    for name in ("differences", "crossings"):
        assert data[name] == [{**entry, "by": "patch_size", "y": "test_loss"} for entry in laws[name]]
    assert [entry["sentence"] for entry in data["inversions"]] == [
        entry["sentence"] for entry in laws["differences"] if entry["verdict"] == "inversion"
    ]


def test_curves_equal_the_metrics_files(page, run_directory):
    curves = data_of(page)["curves"]
    assert len(curves) == 24
    for trial, (curve,) in curves.items():
        assert curve["at"] == {}
        lines = (run_directory / "trials" / trial / "metrics.jsonl").read_text().splitlines()
        tests = [line for line in map(json.loads, lines) if line["kind"] == "test"]
        for name in ("samples", "train_flops", "seconds", "test_loss", "top1"):
            assert curve["lines"][name] == pytest.approx([line[name] for line in tests], rel=1e-6)


def test_page_names_no_address_and_forbids_requests(page):
    text = page.read_text()
    own = re.sub(r"<script>\s*/\*\*\s*\* plotly.*?</script>", "", text, flags=re.S)
    assert len(own) < len(text) / 2
    assert not re.search(r'(src|href)="(?!#|data:)', own)
    assert "https://" not in own.replace("http://www.w3.org/2000/svg", "")
    assert "default-src 'none'" in text
    assert "connect-src 'none'" in text


def test_text_of_a_study_cannot_leave_its_place(make_run, tmp_path):
    name = "</script><script>alert(1)</script><!--"
    page = build([make_run(name=name, seeds=1, patches=(24, 12), inverted=None, forms=())], tmp_path / "r.html")
    assert "<script>alert(1)" not in page.read_text()
    assert data_of(page)["name"] == name


def test_patch_sizes_are_compared_unless_the_study_names_another_axis(run_directory):
    run = read(run_directory)
    assert replace(run, study={}).refinement == "patch_size"
    assert replace(run, study={"laws": {"refinement": "kept_tokens"}}).refinement == "kept_tokens"


def test_only_what_the_planner_counts_is_planned(run_directory):
    run = read(run_directory)
    grid = planner_grid([run])
    assert {node[0] for node in grid["nodes"][0][0][-1]} <= set(run.results["model"])
    for runs, reason in [
        ([replace(run, results=run.results.assign(task="detection"))], "not the models of detection"),
        ([replace(run, study=run.study | {"model": {"options": {"depth": 2}}})], "model.options"),
        ([replace(run, results=run.results[run.results["patch_size"] > 12])], "a law needs three"),
        ([replace(run, results=run.results.drop(columns=["samples_seen"]))], "no samples_seen"),
        ([replace(run, results=run.results.iloc[:0, :0])], "no trial has finished yet"),
        ([run, run], "merged"),
    ]:
        assert reason in planner_grid(runs)["reason"]


def test_merged_set_keeps_studies_apart(make_run, run_directory, tmp_path):
    other = make_run(name="second", seeds=1, models=("deit_nano_patch16",), inverted=None, forms=("power",))
    data = data_of(build([run_directory, other], tmp_path / "both.html"))
    assert data["name"] == "synthetic + second"
    assert "study" in data["axes"]
    assert {law["group"]["study"] for law in data["laws"]} == {"synthetic", "second"}
    assert len(data["rows"]) == 28
    assert len(data["csv"].splitlines()) == 29


def test_merged_refinements_are_those_of_their_study(run_directory):
    run = read(run_directory)
    run = replace(run, laws={**run.laws, "crossings": [{"group": {"model": "m"}, "sentence": "they cross"}]})
    study = {**run.study, "name": "kept", "laws": {"refinement": "kept_tokens"}}
    kept = replace(run, study=study, laws={**run.laws, "y": "mask_loss"})
    data = payload([run, kept], live=True)
    for part in ("differences", "crossings"):
        found = {(entry["group"]["study"], entry["by"], entry["y"]) for entry in data[part]}
        assert found == {("synthetic", "patch_size", "test_loss"), ("kept", "kept_tokens", "mask_loss")}


def test_unfinished_trials_are_told_with_their_state(make_run, tmp_path):
    data = data_of(build([make_run(unfinished=2, forms=())], tmp_path / "r.html"))
    assert [entry["state"] for entry in data["unfinished"]] == ["interrupted", "interrupted"]
    assert data["unfinished"][0]["patch_size"] == 8
    assert ["trials", "22 of 24"] in data["facts"]


def test_five_hundred_trials_stay_small(large_run, tmp_path):
    page = build([large_run], tmp_path / "r.html")
    assert len(data_of(page)["rows"]) == 500
    assert page.stat().st_size < 8e6


def test_published_points_are_those_of_the_table(page):
    points = data_of(page)["published"]
    assert {point["family"] for point in points} == {"deit", "adventurer"}
    pixel = next(p for p in points if p["model"] == "DeiT-B" and p["input_size"] == 64 and p["patch_size"] == 1)
    assert pixel["error"] == pytest.approx(1 - 0.813)
    assert pixel["tokens"] == 4096


def test_configurations_come_back_whole(run_directory):
    run = read(run_directory)
    split = split_configs([run])
    trial, own = next(iter(split["trials"].items()))
    assert split["common"]["recipe.learning_rate"] == 0.003
    assert set(own) <= {"model.name", "model.patch_size", "random_seed"}
    assert {**split["common"], **own}["model.patch_size"] == run.configs[trial]["model"]["patch_size"]


def test_labels_drop_the_patch_suffix_unless_they_would_coincide():
    assert model_labels(["deit_pico_patch16"]) == {"deit_pico_patch16": "deit_pico"}
    both = ["adventurer_base_patch16", "adventurer_base_patch1"]
    assert model_labels(both) == {name: name for name in both}


def test_bad_directories_say_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match="no run directory given"):
        build([], tmp_path / "r.html")
    with pytest.raises(InputError, match="does not exist"):
        build([tmp_path / "missing"], tmp_path / "r.html")
    with pytest.raises(InputError, match=r"neither study.yaml nor results.csv"):
        build([tmp_path], tmp_path / "r.html")
    (tmp_path / "results.csv").write_text("trial,test_loss\na,1\n")
    (tmp_path / "laws.json").write_text("{")
    with pytest.raises(InputError, match=r"laws.json is not readable JSON"):
        build([tmp_path], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_a_metrics_line_still_being_written_is_left_out(make_run):
    folder = make_run(seeds=1, patches=(24, 12), inverted=None, forms=())
    metrics = sorted(folder.glob("trials/*/metrics.jsonl"))[0]
    before = len(read(folder).curves)
    metrics.write_text(metrics.read_text() + '{"kind": "test", "ste')
    assert len(read(folder).curves) == before
    metrics.write_text(metrics.read_text() + "\n")
    with pytest.raises(InputError, match="is not readable JSON"):
        read(folder)


def test_a_page_that_cannot_be_written_is_one_line(run_directory, tmp_path):
    (tmp_path / "taken").write_text("a file, no folder")
    with pytest.raises(InputError, match=r"cannot write to .*taken"):
        build([run_directory], tmp_path / "taken" / "report.html")
