"""`train --recipe`: what the dry run prints is a trial file that says where each value comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import typer
import yaml
from safetensors.torch import save_file

from patchscale.cli import app
from patchscale.errors import InputError
from patchscale.studies import load_study
from patchscale.studies.by_recipe import as_yaml, trial_by_recipe
from patchscale.studies.single import load_trial
from patchscale.training import Init, TrialConfig


@pytest.mark.parametrize(
    ("recipe", "model"), [("deit", "deit_tiny_patch16"), ("adventurer_224", "adventurer_base_patch16")]
)
def test_the_printed_yaml_is_the_trial(recipe: str, model: str) -> None:
    settings = ["model.patch_size=4", "recipe.batch_size=64", "random_seed=2"]
    trial, found = trial_by_recipe(recipe, model, "imagenet-1k", None, settings)
    assert TrialConfig.model_validate(yaml.safe_load(as_yaml(found))) == trial
    assert (trial.model.patch_size, trial.random_seed) == (4, 2)


def test_every_value_has_its_label_and_source() -> None:
    _, found = trial_by_recipe("adventurer_pretrain", "adventurer_base_patch16", "imagenet-1k", None, ["evaluations=3"])
    lines = {line.split(":")[0].strip(): line for line in as_yaml(found).splitlines()}
    assert lines["epochs"].split("#")[1].strip() == "paper: table 8"
    assert lines["random_erasing"].split("#")[1].strip() == "code: --reprob 0.0"
    assert lines["memory_gib"].split("#")[1].startswith(" ours: ")
    assert lines["evaluations"].split("#")[1].strip() == "set"
    assert "0.0005 (table 8) x batch 1024 / 512 (code: main.py" in lines["learning_rate"]
    scalars = [line for line in as_yaml(found).splitlines() if not line.startswith("#") and not line.endswith(":")]
    assert all("  # " in line for line in scalars)


def train(*words: str) -> None:
    typer.main.get_command(app)(["train", *words], standalone_mode=False)


def test_the_command_prints_the_published_one_and_every_value_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--recipe",
        "visual_bases_finetune",
        "--model",
        "lct_vit_base_patch16",
        "--data",
        "imagenet-1k",
        "--dry-run",
    ]
    train(*words)
    printed = capsys.readouterr().out
    assert "# published command: torchrun --nproc_per_node=8 main_finetune.py --batch_size 1024" in printed
    train(*words, "--json", "--init", "mae.safetensors")
    told = json.loads(capsys.readouterr().out)
    assert told["trial"]["recipe"]["learning_rate"] == 0.0048
    assert told["trial"]["init"]["weights"] == "mae.safetensors"
    values = {value["key"]: value for value in told["values"]}
    assert values["recipe.layer_decay"] == {
        "key": "recipe.layer_decay", "value": 0.65, "origin": "code", "source": "--layer_decay 0.65",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--recipe", "deit"], "needs --model and --data"),
        (["trial.yaml", "--recipe", "deit", "--model", "m", "--data", "d"], "takes the place of a trial file"),
        ([], "give a trial file, or --recipe"),
        (["--recipe", "dait", "--model", "deit_tiny_patch16", "--data", "d"], "did you mean deit"),
        (
            ["--recipe", "deit", "--model", "deit_tiny_patch16", "--data", "d", "--set", "recipe.epoch=3"],
            "unknown key 'recipe.epoch'; did you mean 'epochs'",
        ),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        train(*words, "--dry-run")


def test_a_trial_file_takes_keys_under_what_it_leaves_empty(tmp_path: Path) -> None:
    """As config.json of every trial from random weights does."""
    trial, _ = trial_by_recipe("deit", "deit_tiny_patch16", "imagenet-1k", None, [])
    (tmp_path / "config.json").write_text(trial.model_dump_json())
    changed = load_trial(tmp_path / "config.json", ["init.weights=mae.safetensors"])
    assert changed == trial.model_copy(update={"init": Init(weights="mae.safetensors")})


def test_weights_are_no_trial_file(tmp_path: Path) -> None:
    save_file({"head.weight": torch.full((4,), -1.0)}, tmp_path / "weights.safetensors")
    with pytest.raises(InputError, match=r"weights\.safetensors cannot be read as a trial file"):
        train(str(tmp_path / "weights.safetensors"), "--dry-run")


@pytest.mark.parametrize("preset", ["patchification", "quickstart", "flexible_patch"])
def test_presets_at_paper_scale_train_by_deit_s_recipe(preset: str) -> None:
    study = load_study(preset, scale="paper")
    trial, _ = trial_by_recipe("deit", "deit_base_patch16", "imagenet-1k", None, [])
    assert study.recipe == trial.recipe
    assert study.data == trial.data
