"""Studies that start from weights: files of a pattern, trials of another study, and one law over both."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from patchscale.errors import InputError
from patchscale.studies import RunDirectory, Study, load_study, results, run, settled
from patchscale.studies.settle import weights_in
from tests.studies.small import SMALL

SHORT = [*SMALL, "recipe.steps=2", "recipe.warmup_steps=0", "recipe.precision=float32", "evaluations=1"]
DENSE = [
    "data.train_size=8",
    "data.test_size=4",
    "recipe.steps=2",
    "recipe.batch_size=4",
    "recipe.warmup_steps=0",
    "recipe.precision=float32",
    "axes.model=[deit_pico_patch16]",
    "axes.patch_size=[16,8]",
    "axes.input_size=[32x48]",
    "axes.random_seed=[0,5]",
    "evaluations=1",
]


@pytest.fixture(scope="module")
def classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished classification study: patch sizes 16 and 8, random seeds 0 and 1."""
    out = tmp_path_factory.mktemp("runs") / "classes"
    assert not run(load_study("quickstart", settings=SHORT), out).failed
    return out


def dense(*settings: str) -> Study:
    return load_study("segmentation", settings=[*DENSE, *settings])


def weights_of(folder: Path) -> dict[tuple[int, int], Path]:
    """The weights of every trial of a run directory, by patch size and random seed."""
    found = RunDirectory(folder)
    return {
        (trial.config.model.patch_size, trial.config.random_seed): found.trial_folder(trial.id) / "weights.safetensors"
        for trial in found.read_study()[0].trials()
    }


def test_a_dense_study_starts_from_a_classification_study(classes: Path, tmp_path: Path) -> None:
    """Each trial from the trial of its own patch size, and of its own random seed where there is one."""
    outcome = run(dense(f"axes.init=[{classes}]", "axes.patch_size=[16,8]"), tmp_path / "dense")
    assert not outcome.failed
    known = weights_of(classes)
    for trial in outcome.study.trials():
        patch_size, seed = trial.config.model.patch_size, trial.config.random_seed
        told = (outcome.run.trial_folder(trial.id) / "init.txt").read_text()
        assert told.splitlines()[0] == str(known[patch_size, 0 if seed == 5 else seed])
        assert "pos_embed" in told or "blocks.0" in told
    table = results(tmp_path / "dense")
    assert set(table["init"]) == {str(classes)}
    assert outcome.laws is not None
    (difference,) = outcome.laws["differences"]
    assert (difference["pairs"], difference["group"]["init"]) == (2, str(classes))


def test_one_init_for_all_patch_sizes_gives_one_law(classes: Path, tmp_path: Path) -> None:
    """Three patch sizes make one law, and laws from scratch and from weights stay apart."""
    for patch_size in (16, 8, 4):
        shutil.copy(weights_of(classes)[min(16, max(8, patch_size)), 0], tmp_path / f"p{patch_size}.safetensors")
    places = f"axes.init=[scratch, '{tmp_path}/p{{patch_size}}.safetensors']"
    outcome = run(dense(places, "axes.patch_size=[16,8,4]", "axes.random_seed=[0]"), tmp_path / "dense")
    assert not outcome.failed
    assert outcome.laws is not None
    fitted = [found["group"]["init"] for found in outcome.laws["laws"] if found["form"] == "power"]
    assert fitted == ["scratch", str(tmp_path / "p{patch_size}.safetensors")]


def test_names_in_braces_are_the_place_in_the_grid(tmp_path: Path) -> None:
    place = "w/{model}_{patch_size}_{input_size}_{random_seed}.safetensors"
    for setting in (f"init.weights={place}", f"axes.init=['{place}']"):
        trial = dense(setting).trials()[-1]
        assert trial.config.init is not None
        assert trial.config.init.weights == "w/deit_pico_patch16_8_32x48_5.safetensors"


def test_weights_are_told_apart_by_content_and_survive_their_run_directory(classes: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(classes, tmp_path / "copy")
    study = settled(dense(f"init.weights={copy}"))
    assert settled(study) == study
    ids = [trial.id for trial in study.trials()]
    assert ids != [trial.id for trial in dense(f"init.weights={copy}").trials()]
    other = weights_of(classes)[8, 1]
    shutil.copy(other, weights_of(copy)[8, 0])
    changed = [one.id != two for one, two in zip(settled(dense(f"init.weights={copy}")).trials(), ids, strict=True)]
    assert changed == [trial.config.model.patch_size == 8 for trial in study.trials()]
    with pytest.raises(InputError, match="has changed since"):
        settled(study)
    shutil.rmtree(copy)
    again = Study.model_validate(json.loads(study.model_dump_json()))
    assert [trial.id for trial in again.trials()] == ids


def test_what_is_missing_is_one_line_before_anything_starts(classes: Path, tmp_path: Path) -> None:
    unfinished = tmp_path / "unfinished"
    shutil.copytree(classes, unfinished)
    for file in unfinished.glob("trials/*/result.json"):
        file.unlink()
    (tmp_path / "empty").mkdir()
    for setting, message in [
        (
            "init.weights=w{patchsize}.safetensors",
            r"names \{patchsize\}; a path of weights may name \{model\}, ",
        ),
        (f"init.weights={tmp_path}/w{{patch_size}}.safetensors", r"no file at .*w16\.safetensors"),
        (f"init.weights={tmp_path}/empty", "is not a run directory"),
        (f"init.weights={unfinished}", "the trial of deit_pico_patch16 at patch size 16 in .* is not finished"),
    ]:
        with pytest.raises(InputError, match=message):
            run(dense(setting), tmp_path / "run")
        assert not (tmp_path / "run").exists()
    with pytest.raises(InputError, match="no trial of deit_pico_patch16 at patch size 4; it has patch size 16, 8"):
        settled(dense(f"init.weights={classes}", "axes.patch_size=[4]"))
    with pytest.raises(InputError, match=r"no trial of adventurer_pico.*it has other models"):
        settled(dense(f"init.weights={classes}", "axes.model=[adventurer_pico_patch16]"))


def test_of_several_input_sizes_the_same_or_else_the_largest_is_taken(tmp_path: Path) -> None:
    settings = [*SHORT, "axes.input_size=[16,48,32]", "axes.patch_size=[16]", "axes.random_seed=[0]"]
    source = RunDirectory(tmp_path / "sizes")
    source.create()
    source.write_study(load_study("quickstart", settings=settings), {"sharing": {}, "provenance": {}})
    small, large, middle = source.read_study()[0].trials()
    for trial in (small, large, middle):
        folder = source.trial_folder(trial.id)
        folder.mkdir()
        (folder / "weights.safetensors").touch()
        (folder / "result.json").write_text("{}")
    for size, wanted in (("16", small), ("32x48", large)):
        (trial,) = dense(f"axes.input_size=[{size}]", "axes.patch_size=[16]", "axes.random_seed=[0]").trials()
        assert weights_in(source, trial.config).parent.name == wanted.id


def test_trials_that_differ_in_more_than_the_seed_are_not_guessed_among(classes: Path, tmp_path: Path) -> None:
    study = load_study("quickstart", settings=[*SHORT, "axes.recipe.learning_rate=[0.001,0.003]"])
    source = RunDirectory(tmp_path / "two")
    source.create()
    source.write_study(study, {"sharing": {}, "provenance": {}})
    with pytest.raises(InputError, match=r"has 2 trials of .* which differ in recipe\.learning_rate; name a file"):
        settled(dense(f"init.weights={source.path}"))
