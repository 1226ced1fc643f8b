"""Learning curves of models that were measured at several values of an axis: one curve each, none of them a mean."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from patchscale.report.curves import curve_lists, lines_of, own_lines
from patchscale.report.figures import curves, differences
from patchscale.report.payload import payload
from patchscale.report.run import Run, read
from tests.report.vision_study import COUNTS, write_vision_run

N = "task.vision_tokens"


@pytest.fixture(scope="module", params=["trials", "table"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One model for every n beside one each, as trials leave their curves and as results/ keeps them."""
    folder: Path = write_vision_run(tmp_path_factory.mktemp("vision") / "run")
    if request.param == "table":
        shutil.rmtree(folder / "trials")
    return read(folder)


def test_every_measured_value_has_a_curve_of_its_own(run: Run) -> None:
    found = curve_lists(run.curves)
    ends = {(trial, curve["at"].get(N)): curve["lines"]["test_loss"] for trial, own in found.items() for curve in own}
    for row in run.results.to_dict("records"):
        at = row[N] if row["task.protocol"] == "nested" else None
        assert ends.pop((row["trial"], at)) == [pytest.approx(row["test_loss"])]
    assert ends == {}


def test_a_row_has_the_test_lines_at_its_own_value(run: Run) -> None:
    table = own_lines(run, ["task.protocol", N], ["test_loss"])
    assert len(table) == len(run.results) == 2 * 2 * len(COUNTS)
    assert table["test_loss"].tolist() == pytest.approx(run.results["test_loss"].tolist())


def test_an_axis_of_the_curves_stays_an_axis(run: Run) -> None:
    data = payload([run], live=True)
    assert {"task.protocol", N} <= set(data["axes"])
    assert data["lines"] == {"vlm_tokens": {"axis": N, "values": list(COUNTS)}}


def test_lines_are_drawn_and_named_along_the_refinement(run: Run) -> None:
    figure = curves(run)
    assert figure is not None
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == ["(a) deit_atto, 16 px, protocol nested", "(b) deit_atto, 16 px, protocol one_each"]
    for axes in figure.axes:
        assert [text.get_text() for text in axes.texts] == ["$n$ = 4", "$n$ = 2", "$n$ = 1"]
        ends = [text.xy[1] for text in axes.texts]  # pyright: ignore
        assert len(set(ends)) == len(COUNTS)
        places = [text.xyann[1] for text in axes.texts]  # pyright: ignore
        assert places == sorted(places)
        assert places[0] >= 0
        assert places[-1] <= 1


def test_differences_are_those_of_the_refinement(run: Run) -> None:
    figure = differences(run)
    assert figure is not None
    assert figure.axes[0].get_ylabel() == "vision tokens"


def test_lines_differ_in_the_law_s_x_where_nothing_is_refined(run_directory: Path) -> None:
    run = read(run_directory)
    assert lines_of(run, run.results) == {"axis": "patch_size", "values": [24, 16, 12, 8]}
    study = {**run.study, "laws": {"refinement": "input_size", "x": "random_seed"}}
    assert lines_of(replace(run, study=study), run.results) == {"axis": "random_seed", "values": [0, 1, 2]}
