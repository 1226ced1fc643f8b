"""Studies as data: presets resolve at every scale, the grid is what the axes say, mistakes are one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from patchscale.errors import InputError
from patchscale.studies import RunDirectory, load_study, preset_names

STUDY = {
    "name": "mine",
    "title": "My study",
    "data": {"name": "digits_in_clutter"},
    "recipe": {"steps": 4},
    "axes": {
        "model": ["deit_pico_patch16", "adventurer_pico_patch16"],
        "patch_size": [8, 4],
        "input_size": [16, [16, 24]],
        "random_seed": [0, 1],
        "recipe.learning_rate": [0.001, 0.003],
    },
    "skip": [{"model": "deit_pico_patch16", "patch_size": [4]}],
}


def write(tmp_path: Path, **changes) -> str:
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY | changes))
    return str(file)


@pytest.mark.parametrize("name", preset_names())
@pytest.mark.parametrize("scale", ["tiny", "small", "paper"])
def test_every_preset_resolves_at_every_scale(name: str, scale: str) -> None:
    study = load_study(name, scale=scale)
    assert study.scale == scale
    assert len({trial.id for trial in study.trials()}) == len(study.trials()) > 1


def test_axes_that_move_together_are_listed_under_only(tmp_path: Path) -> None:
    pairs = [{"input_size": 16, "patch_size": 8}, {"input_size": 32, "patch_size": [16, 8]}]
    axes = {"model": ["deit_pico_patch16"], "patch_size": [8, 16], "input_size": [16, 32]}
    trials = load_study(write(tmp_path, axes=axes, only=pairs, skip=[{"input_size": 32, "patch_size": 8}])).trials()
    assert [(trial.axes["input_size"], trial.axes["patch_size"]) for trial in trials] == [(16, 8), (32, 16)]


@pytest.mark.parametrize(
    ("axis", "values", "cells"),
    [
        ("recipe.augment", [{"horizontal_flip": 0.5}, {}], ['{"horizontal_flip":0.5}', "{}"]),
        ("model.options", [{"depth": 2}, {"num_heads": 4, "depth": 4}], ['{"depth":2}', '{"depth":4,"num_heads":4}']),
        ("recipe.betas", [[0.9, 0.95], [0.9, 0.999]], ["[0.9,0.95]", "[0.9,0.999]"]),
        ("recipe.ema_decay", [None, 0.99], ["none", "0.99"]),
        ("recipe.clip_norm", [1, None], ["1", "none"]),
        ("recipe.clip_norm", [1, 0.5], [1.0, 0.5]),
        ("recipe.augmented", [False, True], [False, True]),
        ("data.digit_size", [8, None], ["8", "none"]),
    ],
)
def test_axis_values_are_scalars_in_tables(tmp_path: Path, axis: str, values: list, cells: list) -> None:
    axes = {"model": ["deit_pico_patch16"], "patch_size": [8], "input_size": [16], axis: values}
    trials = load_study(write(tmp_path, axes=axes, skip=[])).trials()
    assert [trial.axes[axis] for trial in trials] == cells
    for spelling in (values[-1], cells[-1]):
        left = load_study(write(tmp_path, axes=axes, skip=[{axis: [spelling]}])).trials()
        assert [trial.id for trial in left] == [trial.id for trial in trials[:-1]]


def test_the_grid_is_the_product_of_the_axes_less_what_is_skipped(tmp_path: Path) -> None:
    study = load_study(write(tmp_path))
    trials = study.trials()
    assert len(trials) == 2 * 2 * 2 * 2 * 2 - 8
    assert {trial.config.recipe.learning_rate for trial in trials} == {0.001, 0.003}
    assert {trial.config.model.input_size for trial in trials} == {(16, 16), (16, 24)}
    assert not [t for t in trials if t.axes["model"] == "deit_pico_patch16" and t.axes["patch_size"] == 4]
    assert len({trial.id for trial in trials}) == len(trials)


def test_settings_replace_single_keys() -> None:
    settings = ["recipe.steps=57", "axes.patch_size=[12]", "axes.recipe.learning_rate=[0.1,0.2]", "data.train_size=99"]
    study = load_study("quickstart", settings=settings)
    assert (study.recipe.steps, study.axes["patch_size"], study.data.train_size) == (57, [12], 99)
    assert {trial.config.recipe.learning_rate for trial in study.trials()} == {0.1, 0.2}
    assert load_study("quickstart", settings=["recipe.epochs=2"]).recipe.steps is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": {"stepz": 4}}, "unknown key 'recipe.stepz'; did you mean 'steps'?"),
        ({"axis": {}}, "unknown key 'axis'; did you mean 'axes'?"),
        ({"recipe": {"steps": 4, "epochs": 1}}, "recipe: give either steps or epochs"),
        ({"recipe": {"augment": {"flip": 1}}}, "unknown key 'recipe.augment.flip'; check its spelling"),
        ({"title": None}, "title: Input should be a valid string (value None)"),
        ({"recipe": {"steps": 0}}, "recipe.steps: Input should be greater than 0 (value 0)"),
        ({"axes": STUDY["axes"] | {"patchsize": [4]}}, "unknown axis 'patchsize'; use model, patch_size"),
        ({"axes": STUDY["axes"] | {"patch_size": []}}, "axis 'patch_size' has no values"),
        ({"axes": STUDY["axes"] | {"patch_size": [4, 4]}}, "lists a value twice"),
        ({"axes": {"model": ["deit_pico_patch16"]}}, "axis 'patch_size' is missing"),
        ({"skip": [{"width": 3}]}, "skip names ['width'], which are not axes"),
        ({"only": [{"width": 3}]}, "only names ['width'], which are not axes"),
        ({"only": [{"patch_size": 2}]}, "only and skip leave 0 of"),
        ({"task": "telepathy"}, "task: unknown task; use one of "),
    ],
)
def test_mistakes_in_a_study_are_one_clear_line(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        load_study(write(tmp_path, **changes)).trials()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_names_get_close_matches(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean quickstart"):
        load_study("quikstart")
    with pytest.raises(InputError, match="no scale 'huge'; use one of tiny, small, paper"):
        load_study("quickstart", scale="huge")
    with pytest.raises(InputError, match="no study file at"):
        load_study(str(tmp_path / "none.yaml"))
    with pytest.raises(InputError, match="is not key=value"):
        load_study("quickstart", settings=["recipe.steps"])
    (tmp_path / "broken.yaml").write_text("name: [")
    with pytest.raises(InputError, match=r"broken\.yaml is not valid YAML at line"):
        load_study(str(tmp_path / "broken.yaml"))


def test_what_the_laws_ask_for_is_checked_before_training(tmp_path: Path) -> None:
    for laws, message in [
        ({"refinement": "patchsize"}, "laws.refinement 'patchsize' is not an axis"),
        ({"group": ["modle"]}, "laws.group names ['modle']"),
        ({"x": "tokenz"}, "laws.x 'tokenz' is neither an axis nor one of tokens"),
        ({"forms": ["powr"]}, "powr"),
    ]:
        with pytest.raises(InputError) as caught:
            load_study(write(tmp_path, laws=laws))
        assert message in str(caught.value)


def test_an_axis_that_names_a_trial_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the axes name the same trial twice"):
        load_study(write(tmp_path, axes=STUDY["axes"] | {"input_size": [16, [16, 16]]})).trials()
    with pytest.raises(InputError, match=r"patch_size: .* \(value '8'\)"):
        load_study(write(tmp_path, axes=STUDY["axes"] | {"patch_size": ["8"]})).trials()


def test_other_axes_separate_the_laws(tmp_path: Path) -> None:
    assert load_study(write(tmp_path)).separating_axes() == ["model", "input_size", "recipe.learning_rate"]


def test_json_and_the_study_of_a_run_directory_are_study_files(tmp_path: Path) -> None:
    plain = load_study(write(tmp_path))
    (tmp_path / "mine.json").write_text(json.dumps(STUDY))
    assert load_study(str(tmp_path / "mine.json")) == plain
    run = RunDirectory(tmp_path / "run")
    run.create()
    run.write_study(plain, {"sharing": {}, "provenance": {}})
    assert load_study(str(run.study_file)) == plain
    with pytest.raises(InputError, match=r"is a folder, not a preset or a study file; its study is .*study\.yaml"):
        load_study(str(run.path))


@pytest.mark.parametrize("text", ["scales: 5", "scales: {tiny: 5}", "- a\n- b", "\0"])
def test_a_file_that_is_no_study_is_one_clear_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.json"
    file.write_text(text)
    with pytest.raises(InputError) as caught:
        load_study(str(file))
    assert "mine.json" in str(caught.value)
    assert "\n" not in str(caught.value)
