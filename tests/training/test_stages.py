"""Training in stages: each is a plain trial that starts where the last one ended, whatever interrupts it."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from patchscale.errors import InputError
from patchscale.studies import load_study, settled
from patchscale.studies.presets import apply_setting
from patchscale.training import Progress, Stopped, TrialConfig, read_metrics, train
from patchscale.training.stages import stage_folders
from tests.training.trials import small_trial, stop_at, without_time

SHORT = {"steps": 6, "batch_size": 16, "learning_rate": 2e-3, "precision": "float32"}


def staged_trial(**changes) -> TrialConfig:
    """At 8 pixels and patch 4, then at 16 and patch 4, then the trial's own at 16 and patch 8."""
    stages = [
        {"name": "coarse", "model": {"input_size": 8, "patch_size": 4}, "recipe": SHORT | {"steps": 20}},
        {"name": "middle", "model": {"patch_size": 4, "drop_path": 0.2}, "recipe": SHORT | {"precision": "auto"}},
    ]
    return small_trial(**({"stages": stages, "recipe": {"augment": {}}} | changes))


def test_each_stage_is_a_plain_trial_from_the_last_one_s_weights(tmp_path: Path) -> None:
    config = staged_trial()
    row = train(config, tmp_path / "staged")
    places = stage_folders(config, tmp_path / "staged")
    assert [place.name for place in places] == ["1-coarse", "2-middle", "3-final"]
    rows = [json.loads((place / "result.json").read_text()) for place in places]
    for before, place in pairwise(places):
        alone = json.loads((place / "config.json").read_text())
        assert alone["init"]["weights"] == str(before / "weights.safetensors")
        again = train(TrialConfig.model_validate(alone), tmp_path / "alone" / place.name)
        assert without_time(again) == without_time(json.loads((place / "result.json").read_text()))
    assert row["test_loss"] == rows[-1]["test_loss"]
    assert row["init_test_loss"] == rows[-1]["init_test_loss"]
    for name in ("steps", "samples_seen", "train_flops"):
        assert row[name] == sum(one[name] for one in rows)
    assert row["seconds"] == pytest.approx(sum(one["seconds"] for one in rows), abs=0.02)
    assert (row["trial"], row["input_size"], row["patch_size"]) == (config.trial_id, 16, 8)
    assert json.loads((tmp_path / "staged" / "result.json").read_text()) == row
    assert TrialConfig.model_validate_json((tmp_path / "staged" / "config.json").read_text()) == config
    weights = [load_file(folder / "weights.safetensors") for folder in (tmp_path / "staged", places[-1])]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    last = read_metrics(tmp_path / "staged" / "metrics.jsonl")[-1]
    assert (last["step"], last["train_flops"]) == (row["steps"], row["train_flops"])


def test_positions_and_patch_embedding_are_resized_between_stages(tmp_path: Path) -> None:
    train(staged_trial(), tmp_path)
    notes = [(place / "init.txt").read_text() for place in stage_folders(staged_trial(), tmp_path)[1:]]
    assert "resized        pos_embed: [1, 5, 64] -> [1, 17, 64]" in notes[0]
    assert "patch_embed" not in notes[0].partition("\n")[2]
    assert "resized        patch_embed.proj.weight: [64, 3, 4, 4] -> [64, 3, 8, 8]" in notes[1]


@pytest.mark.parametrize("stop_after", [20, 23])
def test_stopping_in_any_stage_changes_nothing(tmp_path: Path, stop_after: int) -> None:
    config = staged_trial()
    whole = train(config, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(config, tmp_path / "stopped", should_stop=stop_at(stop_after))
    assert not (tmp_path / "stopped" / "result.json").exists()
    again = train(config, tmp_path / "stopped")
    assert without_time(again) == without_time(whole)


def test_progress_is_that_of_all_stages(tmp_path: Path) -> None:
    """The middle stage's steps are known from its epochs before it has begun."""
    stages = staged_trial().model_dump()["stages"]
    stages[1]["recipe"] |= {"steps": None, "epochs": 1.5}
    told: list[Progress] = []
    train(staged_trial(stages=stages), tmp_path, report=told.append)
    assert [progress.step for progress in told] == list(range(1, 20 + 6 + 12 + 1))
    assert {progress.steps for progress in told} == {20 + 6 + 12}
    assert all(before.seconds < after.seconds for before, after in pairwise(told))
    assert all(progress.seconds_left > 0 for progress in told[:-1])
    assert told[-1].seconds_left == 0


def test_a_half_trained_stage_goes_on_wherever_its_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = staged_trial()
    whole = train(config, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(config, tmp_path / "before", should_stop=stop_at(23))
    (tmp_path / "before").rename(tmp_path / "after")
    monkeypatch.chdir(tmp_path)
    assert without_time(train(config, Path("after"))) == without_time(whole)


def test_a_trial_without_stages_is_as_ever(tmp_path: Path) -> None:
    row = train(small_trial(), tmp_path)
    assert row["trial"] == small_trial().trial_id
    assert not (tmp_path / "stages").exists()
    assert "stages" not in small_trial().model_dump(exclude_defaults=True)


def test_stages_take_what_they_do_not_name_from_the_trial() -> None:
    coarse, middle, own = staged_trial(init={"weights": "some.safetensors"}).plain()
    assert (coarse.model.input_size, coarse.model.patch_size, coarse.model.drop_path) == ((8, 8), 4, 0.1)
    assert (middle.model.input_size, middle.model.patch_size, middle.model.drop_path) == ((16, 16), 4, 0.2)
    assert middle.recipe.precision == "float32"
    assert own == small_trial(recipe={"augment": {}})
    assert coarse.init is not None
    assert middle.init is None


def test_a_wrong_stage_is_named() -> None:
    stage = {"name": "one", "recipe": SHORT}
    with pytest.raises(ValueError, match="stages name 'one' twice"):
        small_trial(stages=[stage, stage])
    with pytest.raises(ValueError, match="patchsize"):
        small_trial(stages=[stage | {"model": {"patchsize": 3}}])
    content = {"stages": [dict(stage)]}
    apply_setting(content, "stages.one.recipe.epochs=2")
    assert content["stages"][0]["recipe"]["epochs"] == 2
    assert "steps" not in content["stages"][0]["recipe"]
    with pytest.raises(InputError, match="nothing is called 'two'"):
        apply_setting(content, "stages.two.recipe.epochs=2")


def test_changed_weights_are_another_trial(tmp_path: Path) -> None:
    train(small_trial(recipe={"steps": 2, "warmup_steps": 0}), tmp_path)
    weights = tmp_path / "weights.safetensors"
    study = load_study("quickstart", settings=[f"axes.init=[scratch, {weights}]", "axes.random_seed=[0]"])
    before = [trial.id for trial in settled(study).trials()]
    assert settled(settled(study)) == settled(study)
    train(small_trial(recipe={"steps": 3, "warmup_steps": 0}), tmp_path / "other")
    weights.write_bytes((tmp_path / "other" / "weights.safetensors").read_bytes())
    after = [trial.id for trial in settled(study).trials()]
    assert [a == b for a, b in zip(before, after, strict=True)].count(True) == len(before) // 2
    single = settled(load_study("quickstart", settings=[f"init.weights={weights}"]))
    assert all(trial.config.init and len(trial.config.init.sha256 or "") == 64 for trial in single.trials())
    with pytest.raises(InputError, match="no file at"):
        settled(load_study("quickstart", settings=["init.weights=nowhere.safetensors"]))
