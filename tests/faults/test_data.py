"""Images that cannot be read: named, nothing lost, and the trial goes on when they are back."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from patchscale.errors import InputError
from patchscale.training import Stopped, TrialConfig, make_task, train
from patchscale.training.checkpoint import read_checkpoint
from tests.training.test_resume import assert_equal_runs


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def write_text(file: Path) -> None:
    file.write_text("this is not an image\n" * 20)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate, r"cannot read the image .*train/1/5\.jpg"),
        (write_text, r"cannot read the image .*train/1/5\.jpg: not an image"),
        (Path.unlink, r"now holds 29 training samples, not the 30"),
    ],
)
def test_an_image_that_goes_bad_is_named_and_the_trial_goes_on_with_a_good_one(
    config: TrialConfig, images: Path, tmp_path: Path, damage, reason: str
) -> None:
    train(config, tmp_path / "whole")
    steps = iter([False, False, True])
    with pytest.raises(Stopped):
        train(config, tmp_path / "trial", should_stop=lambda: next(steps))
    checkpoint = tmp_path / "trial" / "checkpoints" / "last.safetensors"
    before = checkpoint.read_bytes()
    shutil.copytree(images, tmp_path / "good")
    bad = images / "train" / "1" / "5.jpg"
    damage(bad)
    with pytest.raises(InputError, match=reason) as refused:
        train(config, tmp_path / "trial")
    assert "\n" not in str(refused.value)
    assert checkpoint.read_bytes() == before
    read_checkpoint(checkpoint, config.trial_id)
    shutil.copy(tmp_path / "good" / "train" / "1" / "5.jpg", bad)
    train(config, tmp_path / "trial")
    assert_equal_runs(tmp_path / "whole", tmp_path / "trial")


def test_bad_images_can_be_left_out_and_are_counted(config: TrialConfig, images: Path, tmp_path: Path) -> None:
    truncate(images / "train" / "1" / "5.jpg")
    write_text(images / "train" / "0" / "2.jpg")
    data = config.data.model_copy(update={"bad_images": "skip"})
    config = config.model_copy(update={"data": data})
    task = make_task(config)
    assert task.train_size == 28
    named = "\n".join(task.train_set.skipped)
    assert "train/1/5.jpg" in named
    assert "train/0/2.jpg" in named
    assert len(task.train_set.skipped) == 2
    train(config, tmp_path / "trial")
