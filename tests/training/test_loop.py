"""What the loop records and guards."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from patchscale.errors import InputError
from patchscale.models import create
from patchscale.tasks import ModelSpec, evaluate
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
    scores = evaluate(task, model, torch.device("cpu"), lambda: torch.autocast("cpu", enabled=False))
    from patchscale.data import normalise

    images = normalise(task.test_set.read(torch.arange(50)), task.mean, task.std)
    with torch.no_grad():
        losses = torch.nn.functional.cross_entropy(model(images), task.test_set.labels, reduction="none")
    assert scores["test_loss"] == pytest.approx(losses.double().mean().item(), rel=1e-6)
    assert scores["top1"] == (model(images).argmax(1) == task.test_set.labels).double().mean().item()


@pytest.mark.parametrize("name", ["deit_pico_patch16", "adventurer_pico_patch16"])
def test_recomputing_keeps_less_and_does_not_change_the_update(tmp_path: Path, name: str) -> None:
    """With stochastic depth: a block that is computed again skips the same samples."""
    rows, kept = [], []
    for recompute in (False, True):
        bytes_of: dict[int, int] = {}

        def pack(tensor: torch.Tensor, found: dict[int, int] = bytes_of) -> torch.Tensor:
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        config = small_trial(name=name, recipe={"recompute": recompute, "steps": 3})
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            rows.append(train(config, tmp_path / str(recompute)))
        kept.append(sum(bytes_of.values()))
    assert rows[0]["test_loss"] == pytest.approx(rows[1]["test_loss"], rel=1e-5)
    assert rows[0]["train_loss"] == pytest.approx(rows[1]["train_loss"], rel=1e-5)
    assert kept[1] < kept[0]


def test_a_task_that_cannot_recompute_says_so(tmp_path: Path) -> None:
    config = small_trial(recipe={"recompute": True, "label_smoothing": 0.0, "mixing": {}, "steps": 3})
    config = TrialConfig.model_validate(config.model_dump() | {"task": "masked"})
    with pytest.raises(InputError, match="does not recompute"):
        train(config, tmp_path)


def test_accumulation_does_not_change_the_update(tmp_path: Path) -> None:
    plain = {"ema_decay": None, "steps": 4}
    one = train(small_trial(recipe=plain), tmp_path / "one")
    three = train(small_trial(recipe=plain | {"accumulation": 3}), tmp_path / "three")
    assert one["test_loss"] == pytest.approx(three["test_loss"], rel=1e-5)
    assert one["train_loss"] == pytest.approx(three["train_loss"], rel=1e-5)


def test_a_loss_that_is_not_finite_stops_before_the_update(tmp_path: Path) -> None:
    config = small_trial(recipe={"learning_rate": 1e30, "clip_norm": None, "ema_decay": None, "warmup_steps": 0})
    with pytest.raises(TrainingFailed, match=r"at step \d+, samples \d+"):
        train(config, tmp_path)
    assert not (tmp_path / "result.json").exists()


def test_weights_evaluate_to_the_trial_s_own_test_loss(tmp_path: Path) -> None:
    row = train(small_trial(), tmp_path)
    scores = evaluate_weights(tmp_path / "weights.safetensors")
    assert scores["test_loss"] == pytest.approx(row["test_loss"], rel=1e-6)
    others = evaluate_weights(tmp_path / "weights.safetensors", "digits")  # another number of images
    assert others.keys() == scores.keys()


def test_the_trial_id_is_a_hash_of_the_configuration() -> None:
    config = small_trial()
    assert config.trial_id == TrialConfig.model_validate_json(config.model_dump_json()).trial_id
    assert config.trial_id != small_trial(random_seed=3).trial_id


def test_drop_over_the_last_doubling_interpolates() -> None:
    points = [{"samples": 10, "test_loss": 4.0}, {"samples": 20, "test_loss": 3.0}, {"samples": 80, "test_loss": 1.0}]
    assert drop_over_last_doubling(points) == pytest.approx(1 - 1.0 / 2.0)
    assert drop_over_last_doubling(points[:1]) is None


@pytest.mark.parametrize("edges", [(0, 8, 16), (0, 5, 11, 16), (0, 1, 16)])
def test_a_batch_in_parts_is_the_batch(edges: tuple[int, ...]) -> None:
    task = make_task(small_trial())
    indices = torch.arange(16)
    whole = task.batch(indices, 7, slice(0, 16))
    parts = [task.batch(indices, 7, slice(low, high)) for low, high in pairwise(edges)]
    assert torch.equal(whole.inputs, torch.cat([part.inputs for part in parts]))
    assert torch.equal(whole.targets, torch.cat([part.targets for part in parts]))


def test_scores_do_not_depend_on_how_the_test_set_is_divided() -> None:
    task = make_task(small_trial())
    model = task.build_model().eval()
    device, plain = torch.device("cpu"), lambda: torch.autocast("cpu", enabled=False)
    order = torch.randperm(50, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = task.measure(model, device, plain, torch.arange(50))
    parts = [type(whole)(*(field[rows] for field in whole[:3])) for rows in (order[:13], order[13:])]
    assert task.scores(parts) == task.scores([whole])


def test_a_trial_starts_from_another_one_s_weights(tmp_path: Path) -> None:
    first = train(small_trial(), tmp_path / "coarse")
    weights = tmp_path / "coarse" / "weights.safetensors"
    same = train(small_trial(init={"weights": str(weights)}), tmp_path / "same")
    assert same["init_test_loss"] == first["test_loss"]
    finer = small_trial().model.model_dump() | {"patch_size": 4}
    row = train(small_trial(model=finer, init={"weights": str(weights)}), tmp_path / "fine")
    assert row["init_test_loss"] != row["test_loss"]
    taken = (tmp_path / "fine" / "init.txt").read_text()
    assert "resized        patch_embed.proj.weight: [64, 3, 8, 8] -> [64, 3, 4, 4]" in taken
    assert "resized        pos_embed" in taken
    with pytest.raises(InputError, match="has changed"):
        train(small_trial(init={"weights": str(weights), "sha256": "0" * 64}), tmp_path / "other")
