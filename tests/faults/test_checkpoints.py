"""Checkpoints and weights that are not what was written: refused by name, never executed, never overwritten."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from patchscale.errors import InputError
from patchscale.models.checkpoints import read_checkpoint as read_weights
from patchscale.training import Keep, Stopped, TrainingFailed, load_weights, train
from tests.training.test_resume import assert_equal_runs
from tests.training.trials import small_trial, stop_at


class Bomb:
    """Unpickling it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """A trial that was stopped after six steps, with a kept checkpoint of step 4; returns its last checkpoint."""
    with pytest.raises(Stopped):
        train(small_trial(), tmp_path / "trial", should_stop=stop_at(6), keep=Keep(every=4))
    return tmp_path / "trial" / "checkpoints" / "last.safetensors"


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1000])


def take_another_trial_s(file: Path) -> None:
    with pytest.raises(Stopped):
        train(small_trial(random_seed=9), file.parent / "other", should_stop=lambda: True)
    shutil.copy(file.parent / "other" / "checkpoints" / "last.safetensors", file)


def strip(file: Path) -> None:
    save_file(load_file(file), file)


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (flip_a_bit, "is damaged"),
        (cut_short, "cannot be read as safetensors"),
        (take_another_trial_s, "is a checkpoint of trial"),
        (strip, "is not a checkpoint"),
    ],
)
def test_a_tampered_checkpoint_is_refused_and_a_kept_one_takes_its_place(
    stopped: Path, whole: Path, tamper, reason: str
) -> None:
    tamper(stopped)
    before = stopped.read_bytes()
    with pytest.raises(InputError, match=reason) as refused:
        train(small_trial(), stopped.parents[1])
    assert str(stopped) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert stopped.read_bytes() == before
    shutil.copy(stopped.with_name("step-4.safetensors"), stopped)
    train(small_trial(), stopped.parents[1])
    assert_equal_runs(whole, stopped.parents[1])


def test_a_pickle_bomb_does_not_go_off(stopped: Path, tmp_path: Path) -> None:
    mark, bomb = tmp_path / "exploded", pickle.dumps(Bomb(tmp_path / "exploded"))
    stopped.write_bytes(bomb)
    with pytest.raises(InputError, match="cannot be read as safetensors"):
        train(small_trial(), stopped.parents[1])
    for name in ("weights.safetensors", "weights.pth"):
        file = tmp_path / name
        file.write_bytes(bomb)
        for read in (read_weights, load_weights):
            with pytest.raises(InputError, match=name):
                read(file)
    with pytest.raises(InputError, match=r"weights\.safetensors"):
        train(small_trial(init={"weights": str(tmp_path / "weights.safetensors")}), tmp_path / "other")
    assert not mark.exists()
    pickle.loads(bomb)
    assert mark.exists()


def test_weights_with_a_nan_are_told_before_the_first_update(whole: Path, tmp_path: Path) -> None:
    weights = load_file(whole / "weights.safetensors")
    weights["head.bias"] = torch.full_like(weights["head.bias"], float("nan"))
    save_file(weights, tmp_path / "weights.safetensors")
    with pytest.raises(TrainingFailed, match="test loss nan at step 0") as failed:
        train(small_trial(init={"weights": str(tmp_path / "weights.safetensors")}), tmp_path / "trial")
    assert "\n" not in str(failed.value)


def test_a_nan_in_training_names_step_and_samples_and_leaves_a_finite_checkpoint(tmp_path: Path) -> None:
    recipe = {"learning_rate": 1e30, "clip_norm": None, "ema_decay": None, "warmup_steps": 0}
    with pytest.raises(TrainingFailed, match=r"at step \d+, samples \d+, .*: nothing was updated") as failed:
        train(small_trial(recipe=recipe), tmp_path, checkpoint_seconds=0)
    assert "\n" not in str(failed.value)
    tensors = load_file(tmp_path / "checkpoints" / "last.safetensors")
    assert all(torch.isfinite(tensor).all() for tensor in tensors.values())
    assert not (tmp_path / "result.json").exists()
