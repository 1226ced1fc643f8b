"""A trial that is stopped or killed and continued gives the same digits as one that was left alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from patchscale.data import DataSpec, load
from patchscale.errors import InputError
from patchscale.training import Processes, Stopped, make_task, read_metrics, train
from patchscale.training.ahead import Ahead
from patchscale.training.learner import Learner
from tests.training.trials import small_trial, stop_at, without_time

KILLED = """
import os, signal, sys
from pathlib import Path
from patchscale.training import TrialConfig, train
config = TrialConfig.model_validate_json(Path(sys.argv[1]).read_text())
def report(progress):
    if progress.step == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
train(config, Path(sys.argv[2]), report=report, checkpoint_seconds=0)
"""


def assert_equal_runs(one: Path, other: Path) -> None:
    lines = [[without_time(line) for line in read_metrics(folder / "metrics.jsonl")] for folder in (one, other)]
    assert lines[0] == lines[1]
    rows = [without_time(json.loads((folder / "result.json").read_text())) for folder in (one, other)]
    assert rows[0] == rows[1]
    weights = [load_file(folder / "weights.safetensors") for folder in (one, other)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


@pytest.mark.parametrize("name", ["deit_pico_patch16", "adventurer_pico_patch16"])
def test_stopping_at_any_step_changes_nothing(tmp_path: Path, name: str) -> None:
    config = small_trial(name=name)
    train(config, tmp_path / "whole")
    for stop_after in (1, 5, 6, 11):
        folder = tmp_path / str(stop_after)
        with pytest.raises(Stopped):
            train(config, folder, should_stop=stop_at(stop_after))
        train(config, folder)
        assert_equal_runs(tmp_path / "whole", folder)


def test_sigkill_changes_nothing(tmp_path: Path) -> None:
    config = small_trial()
    train(config, tmp_path / "whole")
    (tmp_path / "config.json").write_text(config.model_dump_json())
    for step in ("3", "9"):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "config.json"), str(tmp_path / "killed"), step]
        assert subprocess.run(command).returncode == -9
    assert not (tmp_path / "killed" / "result.json").exists()
    train(config, tmp_path / "killed")
    assert_equal_runs(tmp_path / "whole", tmp_path / "killed")


def test_images_decoded_ahead_are_those_of_plain_calls(tmp_path: Path) -> None:
    images = load(DataSpec(name="digits"), "train", (24, 24)).read(torch.arange(40)).permute(0, 2, 3, 1).numpy()
    for index, image in enumerate(images):
        folder = tmp_path / "images" / ("val" if index % 4 == 0 else "train") / str(index % 2)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{index}.png")
    config = small_trial(data={"name": str(tmp_path / "images"), "memory_gib": 0})
    task = make_task(config)
    assert task.decodes
    batch = Learner(config, task, torch.device("cpu"), Processes(), "ddp").batch
    with Ahead(batch, last=12, depth=2) as batches:
        for step in range(12):
            for ahead, plain in zip(batches(step), batch(step), strict=True):
                assert torch.equal(ahead.inputs, plain.inputs)
                assert torch.equal(ahead.targets, plain.targets)
    train(config, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(config, tmp_path / "stopped", should_stop=stop_at(3))
    train(config, tmp_path / "stopped")
    assert_equal_runs(tmp_path / "whole", tmp_path / "stopped")


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    config = small_trial()
    with pytest.raises(Stopped):
        train(config, tmp_path, should_stop=lambda: True)
    checkpoint = tmp_path / "checkpoints" / "last.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"last\.safetensors cannot be read"):
        train(config, tmp_path)


def test_random_seed_decides_everything(tmp_path: Path) -> None:
    one = train(small_trial(), tmp_path / "a")
    again = train(small_trial(), tmp_path / "b")
    other = train(small_trial(random_seed=1), tmp_path / "c")
    assert without_time(one) == without_time(again)
    assert one["test_loss"] != other["test_loss"]
