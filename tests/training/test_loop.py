"""What the loop records and guards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from patchscale.models import create
from patchscale.tasks import ModelSpec
from patchscale.training import TrainingFailed, TrialConfig, read_metrics, train
from patchscale.training.costs import cost_of
from patchscale.training.loop import make_task
from patchscale.training.result import drop_over_last_doubling
from patchscale.training.use import evaluate_weights
from tests.training.trials import small_trial


def test_learning_lowers_the_loss_and_the_record_is_complete(tmp_path: Path) -> None:
    plain = {"steps": 60, "ema_decay": None, "augment": {}, "mixing": {}, "label_smoothing": 0.0, "batch_size": 64}
    row = train(small_trial(recipe=plain), tmp_path)
    lines = read_metrics(tmp_path / "metrics.jsonl")
    losses = [line["loss"] for line in lines if line["kind"] == "train"]
    assert losses[-1] < 0.7 * losses[0]
    tests = [line for line in lines if line["kind"] == "test"]
    assert [line["step"] for line in tests] == [15, 30, 60]
    assert tests[-1]["train_flops"] == row["train_flops"] == 3 * row["flops_per_image"] * 60 * 64
    assert row["test_loss"] == tests[-1]["test_loss"]
    assert row["samples_seen"] == 60 * 64
    assert row == json.loads((tmp_path / "result.json").read_text())


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("deit_pico_patch16", {}),
        ("adventurer_pico_patch16", {}),
        ("deit_pico_patch16", {"embed_dim": 48, "depth": 3, "num_heads": 3}),
        ("adventurer_pico_patch16", {"embed_dim": 96, "depth": 3, "headdim": 32, "d_state": 16}),
        ("adventurer_pico_patch16", {"mlp_ratio": 1.5}),
    ],
)
def test_the_counted_parameters_are_the_model_s(name: str, options: dict) -> None:
    spec = ModelSpec(name=name, patch_size=4, input_size=(16, 24), options=options)
    model = create(name, input_size=(16, 24), patch_size=4, num_classes=7, **options)
    assert cost_of(spec, num_classes=7).params == sum(parameter.numel() for parameter in model.parameters())


def test_evaluation_counts_every_sample_once() -> None:
    config = small_trial()
    task = make_task(config)
    model = task.build_model().eval()
    scores = task.evaluate(model, torch.device("cpu"), lambda: torch.autocast("cpu", enabled=False))
    from patchscale.data import normalise

    images = normalise(task.test_set.read(torch.arange(50)), task.mean, task.std)
    with torch.no_grad():
        losses = torch.nn.functional.cross_entropy(model(images), task.test_set.labels, reduction="none")
    assert scores["test_loss"] == pytest.approx(losses.double().mean().item(), rel=1e-6)
    assert scores["top1"] == (model(images).argmax(1) == task.test_set.labels).double().mean().item()


def test_accumulation_does_not_change_the_update(tmp_path: Path) -> None:
    plain = {"ema_decay": None, "steps": 4}
    changes = {"model": small_trial().model.model_dump() | {"drop_path": 0.0}}
    one = train(small_trial(recipe=plain, **changes), tmp_path / "one")
    four = train(small_trial(recipe=plain | {"accumulation": 3}, **changes), tmp_path / "four")
    assert one["test_loss"] == pytest.approx(four["test_loss"], rel=1e-4)
    assert one["train_loss"] == pytest.approx(four["train_loss"], rel=1e-4)


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path: Path) -> None:
    config = small_trial(recipe={"learning_rate": 1e30, "clip_norm": None, "ema_decay": None, "warmup_steps": 0})
    with pytest.raises(TrainingFailed, match=r"at step \d+, samples \d+"):
        train(config, tmp_path)
    assert not (tmp_path / "result.json").exists()


def test_weights_evaluate_to_the_trial_s_own_test_loss(tmp_path: Path) -> None:
    row = train(small_trial(), tmp_path)
    scores = evaluate_weights(tmp_path / "weights.safetensors")
    assert scores["test_loss"] == pytest.approx(row["test_loss"], rel=1e-6)


def test_the_trial_id_is_a_hash_of_the_configuration() -> None:
    config = small_trial()
    assert config.trial_id == TrialConfig.model_validate_json(config.model_dump_json()).trial_id
    assert config.trial_id != small_trial(random_seed=3).trial_id


def test_drop_over_the_last_doubling_interpolates() -> None:
    points = [{"samples": 10, "test_loss": 4.0}, {"samples": 20, "test_loss": 3.0}, {"samples": 80, "test_loss": 1.0}]
    assert drop_over_last_doubling(points) == pytest.approx(1 - 1.0 / 2.0)
    assert drop_over_last_doubling(points[:1]) is None
