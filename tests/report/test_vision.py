"""The panels of a study of vision tokens: numbers as the run directory has them, whole costs, answers side by side."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchscale.report.figures import vision
from patchscale.report.payload import payload
from patchscale.report.run import read
from patchscale.report.vision import examples, vision_panels
from tests.report.vision_study import COUNTS, score_of, write_vision_run

AXES = ["model", "patch_size", "task.protocol", "task.vision_tokens"]


@pytest.fixture(scope="module")
def vision_run(tmp_path_factory) -> Path:
    return write_vision_run(tmp_path_factory.mktemp("vision") / "run")


def test_curves_are_those_of_laws_json(vision_run):
    found = payload([read(vision_run)])["vision"]
    assert found["curves"] == json.loads((vision_run / "laws.json").read_text())["vision_tokens"]
    by_group = {(curve["y"], curve["group"]["task.protocol"]): curve for curve in found["curves"]}
    assert len(by_group) == 6
    means = by_group["dense_token_accuracy", "one_each"]["means"]
    assert [row["x"] for row in means] == list(COUNTS)
    assert [row["mean"] for row in means] == pytest.approx([score_of(n, 0, False) + 0.005 for n in COUNTS])
    assert len(found["published"]) == 36


def test_parts_of_the_cost_add_up_to_the_trials_count(vision_run):
    run = read(vision_run)
    panels = vision_panels(run, AXES)
    assert panels is not None
    (entry,) = panels["costs"]
    assert [value["x"] for value in entry["values"]] == list(COUNTS)
    totals = dict(zip(run.results["task.vision_tokens"], run.results["flops_per_image"], strict=True))
    for value in entry["values"]:
        assert value["encoder"] + value["fusion"] + value["language"] == totals[value["x"]]
    assert len({value["encoder"] for value in entry["values"]}) == 1
    assert len({value["fusion"] for value in entry["values"]}) == 3


def test_answers_of_single_trials_stand_in_one_row(vision_run):
    found = examples(read(vision_run), AXES[:-1])
    assert found is not None
    assert (found["seed"], found["counts"]) == (0, list(COUNTS))
    first, second = found["images"]
    for image, value in ((first, 0), (second, 9)):
        content = base64.b64decode(image["image"].removeprefix("data:image/png;base64,"))
        assert (np.asarray(Image.open(io.BytesIO(content))) == value).all()
        assert image["small"]
    dense, colour = first["asked"]
    protocols = [row["group"]["task.protocol"] for row in dense["rows"]]
    assert sorted(protocols) == ["nested", "one_each"]
    for row in dense["rows"]:
        assert row["said"] == {"1": "red red", "2": "red blue", "4": "red blue"}
        assert row["right"] == {"1": False, "2": True, "4": True}
    right = {row["group"]["task.protocol"]: set(row["right"].values()) for row in colour["rows"]}
    assert right == {"nested": {True}, "one_each": {False}}


def test_other_studies_have_no_such_panels(run_directory, vision_run):
    assert payload([read(run_directory)])["vision"] is None
    assert payload([read(vision_run)])["dense"] is None


def test_the_figure_draws_every_law_and_leaves_held_out_points_open(vision_run, run_directory):
    run = read(vision_run)
    panels = vision(run).axes
    assert [axes.get_ylabel() for axes in panels] == ["dense token accuracy"] * 2 + ["colour exact match"] * 2
    curve = next(curve for curve in run.laws["vision_tokens"] if curve["y"] == "dense_token_accuracy")
    *laws, seen, held = panels[0].lines
    assert [line.get_ydata().tolist() for line in laws] == [law["curve"]["y"] for law in curve["laws"] if law["curve"]]
    assert sorted(set(seen.get_xdata())) == [1, 2]
    assert set(held.get_xdata()) == {4}
    assert held.get_markerfacecolor() != seen.get_markerfacecolor()
    assert vision(read(run_directory)) is None
