"""Paper figures: written whole, vector text, equal bytes for equal data, the data's marks in them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd
import pytest

from patchscale.errors import InputError
from patchscale.report import figures
from patchscale.report.figures import WIDTH, cost, curves, differences, law, repeats
from patchscale.report.payload import payload
from patchscale.report.run import read
from patchscale.report.theme import LIGHT

MODEL = ("deit_pico_patch16",)
NAMES = ["law", "differences", "curves", "cost"]


@pytest.fixture(scope="module")
def written(run_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {path.name: path for path in figures(run_directory, tmp_path_factory.mktemp("figures"))}


def test_every_figure_is_there_in_both_kinds(written):
    assert set(written) == {f"{name}.{kind}" for name in NAMES for kind in ("svg", "png")}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in written.values() if path.suffix == ".png")


@pytest.mark.parametrize("name", NAMES)
def test_svg_has_real_text_and_fits_a_page(written, name):
    root = ElementTree.parse(written[f"{name}.svg"]).getroot()
    texts = ["".join(node.itertext()) for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert any(text.startswith("(a)") for text in texts)
    assert float((root.get("width") or "").removesuffix("pt")) <= WIDTH * 72 + 20


def test_ticks_are_patch_sizes(written):
    texts = written["law.svg"].read_text()
    assert all(f">{patch}</text>" in texts for patch in (24, 16, 12, 8))
    assert "patch size, tokens below" in texts


def test_figures_repeat_to_the_byte(written, run_directory, tmp_path):
    again = {path.name: path.read_bytes() for path in figures(run_directory, tmp_path)}
    assert again == {name: path.read_bytes() for name, path in written.items()}


def test_law_figure_holds_every_trial_and_only_measured_points_are_blue(run_directory):
    figure = law(read(run_directory))
    assert figure is not None
    points = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "o"]
    assert sum(len(line.get_xdata()) for line in points) == 24
    assert {line.get_markerfacecolor() for line in points} == {LIGHT["measured"]}
    fits = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "None"]
    assert {line.get_color() for line in fits} == {LIGHT["predicted"]}


def test_counted_points_are_predictions_in_figure_and_page(run_directory):
    run = read(run_directory)
    counting = replace(run, study={**run.study, "name": "counting", "counting": {"device": "a100"}})
    counting = replace(counting, results=run.results.assign(study="counting"))
    figure = law(counting)
    assert figure is not None
    points = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "o"]
    assert {line.get_markerfacecolor() for line in points} == {LIGHT["predicted"]}
    assert figure.legends[0].get_texts()[0].get_text() == "counted from shapes, predicted"
    assert payload([counting], live=True)["counted"] == ["counting"]
    assert payload([run, counting], live=True)["counted"] == ["counting"]


def test_figures_without_laws_still_show_points(make_run, tmp_path):
    folder = make_run(seeds=1, patches=(24, 12), inverted=None, forms=())
    assert differences(read(folder)) is not None
    assert curves(read(folder)) is not None
    (folder / "laws.json").unlink()
    assert differences(read(folder)) is None
    assert {path.stem for path in figures(folder, tmp_path)} == {"law", "curves", "cost"}


def test_a_bar_that_reaches_below_zero_runs_out_of_the_panel(run_directory):
    """Two random seeds: the interval of a difference is wider than the loss, which a log axis cannot show."""
    losses = {1: (0.055, None), 10: (0.175, -0.4), 100: (0.105, -0.3), 1000: (0.0, None)}
    rows = [
        {"model": "deit_pico_patch16", "repeats": n, "loss": loss, "effective_size": None, "size": 1}
        | {"excess": loss - 0.055, "excess_low": low, "excess_high": None if low is None else 0.5}
        for n, (loss, low) in losses.items()
    ]
    run = read(run_directory)
    found = [{"group": {}, "y": "test_loss", "rows": rows}]
    figure = repeats(replace(run, laws={"y": "test_loss", "repeated_data": found}))
    assert figure is not None
    low, high = figure.axes[0].get_ylim()
    assert 0.055 / 2 < low < 0.055
    assert high > 0.055 + 0.5
    figure.canvas.draw()


def test_differences_without_a_common_seed_are_named(run_directory):
    run = read(run_directory)
    first, *others = run.laws["differences"]
    unknown = {**first, "pairs": 0, "difference": None, "low": None, "high": None, "verdict": "undecided"}
    figure = differences(replace(run, laws={**run.laws, "differences": [unknown, *others]}))
    assert figure is not None
    axes = figure.axes[0]
    assert [text.get_text() for text in axes.texts] == ["no seed in common"]
    marks = [line for line in axes.lines if line.get_marker() == "o"]
    assert sorted(line.get_ydata()[0] for line in marks) == [1, 2]  # pyright: ignore


@pytest.mark.parametrize("lost", [1, None])
def test_a_loss_of_zero_is_left_out_of_a_log_axis(run_directory, tmp_path, lost):
    """One perfect trial, and a study of nothing else."""
    run = read(run_directory)
    for name, table in (("results.csv", run.results), ("learning_curves.csv", run.curves)):
        trials = table["trial"].drop_duplicates()[:lost]
        table.assign(test_loss=table["test_loss"].mask(table["trial"].isin(trials), 0.0)).to_csv(tmp_path / name)
    written = figures(tmp_path, tmp_path / "figures")
    assert {path.stem for path in written} == {"law", "curves", "cost"}


def test_another_axis_has_panels_and_shapes_of_its_own(make_run):
    run, decoders = read(make_run(seeds=1, patches=(24, 12), inverted=None, models=MODEL, forms=())), ("a", "b")

    def twice(table: pd.DataFrame) -> pd.DataFrame:
        return pd.concat([table.assign(trial=table["trial"] + name, **{"task.decoder": name}) for name in decoders])

    told = [
        {**entry, "group": {**entry["group"], "task.decoder": name}}
        for name in decoders
        for entry in run.laws["differences"]
    ]
    run = replace(
        run,
        results=twice(run.results),
        curves=twice(run.curves).drop(columns="task.decoder"),
        laws={**run.laws, "differences": told},
    )
    drawn, priced = curves(run), cost(run)
    assert drawn is not None
    assert priced is not None
    assert [axes.get_title("left").rpartition(" ")[2] for axes in drawn.axes] == list(decoders)
    assert [text.get_text() for text in priced.legends[0].get_texts()] == ["deit_pico, a", "deit_pico, b", "Pareto set"]


def test_nothing_finished_is_refused(make_run, tmp_path):
    folder = make_run(seeds=1, patches=(24,), models=("deit_pico_patch16",), unfinished=1)
    with pytest.raises(InputError, match="no finished trial to draw"):
        figures(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
