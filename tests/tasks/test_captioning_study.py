"""The preset at three scales, and a study of vision tokens from YAML to a row for each n and to other weights."""

from __future__ import annotations

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from patchscale.studies import load_study
from patchscale.studies.analysis import result_table
from patchscale.studies.run_directory import RunDirectory
from patchscale.training import Init, TrialConfig, train

TINY = ["recipe.steps=3", "recipe.warmup_steps=1", "data.train_size=64", "data.test_size=8", "evaluations=1"]


@pytest.mark.parametrize(("scale", "trials"), [("tiny", 21), ("small", 21), ("paper", 10)])
def test_preset_names_its_trials(scale, trials):
    study = load_study("vlm_tokens", scale=scale)
    assert len(study.trials()) == trials
    protocols = {trial.config.task_options["protocol"] for trial in study.trials()}
    assert protocols == ({"one_each"} if scale == "paper" else {"one_each", "nested"})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run directory in which the nested trial and the one of two tokens are finished."""
    study = load_study("vlm_tokens", scale="tiny", settings=[*TINY, "axes.random_seed=[0]"])
    run = RunDirectory(tmp_path_factory.mktemp("vlm"))
    run.create()
    chosen = [
        trial
        for trial in study.trials()
        if trial.config.task_options["protocol"] == "nested" or trial.config.task_options["vision_tokens"] == 2
    ]
    for trial in chosen:
        train(trial.config, run.trial_folder(trial.id), device=torch.device("cpu"))
    return study, run, chosen


def test_a_nested_model_has_a_row_for_each_n(trained):
    study, run, _ = trained
    table = result_table(run, study)
    nested = table[table["task.protocol"] == "nested"].set_index("task.vision_tokens")
    single = table[table["task.protocol"] == "one_each"].set_index("task.vision_tokens")
    assert list(nested.index) == [1, 2, 3, 4, 5, 6]
    assert list(single.index) == [2]
    assert nested["test_loss"].nunique() == 6
    assert not [name for name in table if name.endswith("_n2")]
    assert nested["flops_per_image"].is_monotonic_increasing
    assert nested.loc[2, "flops_per_image"] == single.loc[2, "flops_per_image"]
    assert nested["train_flops"].nunique() == 1
    assert isinstance(table, pd.DataFrame)


def test_a_trial_starts_from_the_whole_model_of_another(trained, tmp_path):
    _, run, (nested, single) = trained
    weights = run.trial_folder(nested.id) / "weights.safetensors"
    content = single.config.model_dump(mode="json")
    content["task_options"]["queries"] = 6
    content["init"] = Init(weights=str(weights), part="model").settled().model_dump()
    config = TrialConfig.model_validate(content)
    train(config, tmp_path, device=torch.device("cpu"))
    report = (tmp_path / "init.txt").read_text().splitlines()
    assert "0 resized, 0 missing, 0 left over, 1 reinitialised" in report[1]
    assert report[2:] == ["reinitialised  encoder.pos_embed: fixed sin-cos positions of the model are kept"]
    assert (
        load_file(weights)["fusion.queries"].shape
        == load_file(tmp_path / "weights.safetensors")["fusion.queries"].shape
    )
