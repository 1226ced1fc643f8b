"""Trials whose data repeat: the same digits however they are interrupted or divided, and what they remember."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from patchscale.data import RepeatSampler
from patchscale.errors import InputError
from patchscale.training import Stopped, TrialConfig, default_device, make_task, read_metrics, train
from patchscale.training.learner import Learner
from patchscale.training.memorisation import LOOKED_AT
from patchscale.training.order import build_sampler
from patchscale.training.processes import Processes
from tests.training.processes import run_all
from tests.training.trials import small_trial, stop_at, without_time

DATA = {"name": "digits_in_clutter", "train_size": 192, "test_size": 51, "digit_size": 8}
SCORES = [f"{kind}_{score}" for kind in ("repeated", "unique") for score in ("loss", "changed_loss", "recall")]


def repeating(repeats: int = 12, fraction: float = 0.25, **changes) -> TrialConfig:
    """12 steps of 16 samples, a quarter of which (48) come from 48 / repeats images."""
    return small_trial(data={**DATA, "repeat_fraction": fraction, "repeats": repeats}, **changes)


def lines_of(folder: Path) -> list[dict]:
    return [without_time(line) for line in read_metrics(folder / "metrics.jsonl")]


def test_stopping_changes_nothing_and_every_test_point_says_what_is_remembered(tmp_path: Path) -> None:
    config = repeating()
    train(config, tmp_path / "whole")
    with pytest.raises(Stopped):
        train(config, tmp_path / "stopped", should_stop=stop_at(5))
    train(config, tmp_path / "stopped")
    assert lines_of(tmp_path / "whole") == lines_of(tmp_path / "stopped")
    tests = [line for line in lines_of(tmp_path / "whole") if line["kind"] == "test"]
    assert len(tests) == 3
    assert all(set(SCORES) <= set(line) for line in tests)
    row = json.loads((tmp_path / "whole" / "result.json").read_text())
    assert row["repeated_loss"] == tests[-1]["repeated_loss"]
    plain = train(small_trial(), tmp_path / "plain")
    assert not set(SCORES) & set(plain)


def test_what_is_repeated_is_remembered(tmp_path: Path) -> None:
    recipe = {"steps": 150, "learning_rate": 5e-3, "ema_decay": None, "label_smoothing": 0.0}
    recipe |= {"mixing": {}, "augment": {}, "warmup_steps": 5}
    config = repeating(repeats=300, fraction=0.5, recipe=recipe, evaluations=1, even_evaluations=3)
    config = config.model_copy(update={"data": config.data.model_copy(update={"train_size": 1400})})
    row = train(config, tmp_path)
    assert [line["step"] for line in lines_of(tmp_path) if line["kind"] == "test"] == [50, 100, 150]
    assert row["repeated_loss"] < 0.05
    assert row["repeated_loss"] < row["repeated_changed_loss"] < row["unique_changed_loss"]
    assert row["unique_loss"] == pytest.approx(row["test_loss"], rel=0.3)
    assert 0 <= row["unique_recall"] <= 1


def test_losses_are_those_of_the_images_named() -> None:
    config = repeating(repeats=1, fraction=0.5)
    task = make_task(config)
    learner = Learner(config, task, default_device(), Processes(), "ddp")
    assert isinstance(learner.sampler, RepeatSampler)
    subset = learner.sampler.subset[:LOOKED_AT]
    images, labels = task.train_set.read(subset), task.train_set.labels[subset]  # pyright: ignore
    with learner.placement.evaluated() as model, torch.no_grad():
        from patchscale.data import normalise

        logits = model.eval()(normalise(images, task.mean, task.std).to(learner.device))
        expected = torch.nn.functional.cross_entropy(logits, labels.to(learner.device)).item()
    assert learner.scores()["repeated_loss"] == pytest.approx(expected, rel=1e-5)


def test_repetition_that_does_not_fit_the_trial_is_refused() -> None:
    with pytest.raises(InputError, match="192 different images in 192 samples, but there are 100"):
        build_sampler(repeating(repeats=1), 100)
    with pytest.raises(InputError, match="augment_repeats 3"):
        build_sampler(repeating(recipe={"augment_repeats": 3}), 192)


@pytest.mark.slow
def test_two_processes_see_and_remember_the_same(tmp_path: Path) -> None:
    config = repeating().model_dump(mode="json")
    forms = {"one": (1, "ddp"), "ddp": (2, "ddp"), "fsdp": (2, "fsdp")}
    run_all(
        tmp_path,
        [
            {"config": config, "out": str(tmp_path / name), "size": size, "parallel": parallel}
            for name, (size, parallel) in forms.items()
        ],
    )
    first = lines_of(tmp_path / "one")
    for name in ("ddp", "fsdp"):
        for line, other in zip(first, lines_of(tmp_path / name), strict=True):
            for score in set(line) & {"loss", "test_loss", *SCORES}:
                assert other[score] == pytest.approx(line[score], rel=1e-4), (name, line["step"], score)
