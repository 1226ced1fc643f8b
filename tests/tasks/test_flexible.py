"""One model at many patch sizes: what it computes, what it learns from, and the rows it gives."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from patchscale.errors import InputError
from patchscale.models import create, load_resized, save_model
from patchscale.models.flexible import AtPatchSize
from patchscale.studies import RunDirectory, load_study, results, run
from patchscale.tasks import evaluate
from patchscale.training import TrialConfig, make_task
from patchscale.training.costs import cost_of, cost_of_trial

FAMILIES = pytest.mark.parametrize("name", ["deit_pico_patch16", "adventurer_pico_patch16"])


def flexible_trial(name: str = "deit_pico_patch16", **changes) -> TrialConfig:
    content = {
        "task": "flexible_classification",
        "task_options": {"patch_sizes": [8, 4, 2]},
        "model": {"name": name, "patch_size": 8, "input_size": 16, "options": {"depth": 2}},
        "data": {"name": "digits_in_clutter", "train_size": 64, "test_size": 50, "digit_size": 8},
        "recipe": {"steps": 12, "batch_size": 16, "precision": "float32"},
    }
    return TrialConfig.model_validate(content | changes)


@FAMILIES
@pytest.mark.parametrize("positions", ["learned", "sincos"])
def test_the_view_is_the_model_moved_to_that_patch_size(name: str, positions: str, tmp_path: Path) -> None:
    model = create(name, input_size=(16, 24), patch_size=8, num_classes=5, positions=positions, depth=2).eval()
    save_model(model, tmp_path / "coarse.safetensors")
    images = torch.randn(2, 3, 16, 24)
    for size in (8, 4, 2):
        moved = create(name, input_size=(16, 24), patch_size=size, num_classes=5, positions=positions, depth=2).eval()
        load_resized(moved, tmp_path / "coarse.safetensors")
        with torch.no_grad():
            torch.testing.assert_close(AtPatchSize(model, size)(images), moved(images), rtol=1e-4, atol=1e-5)
    assert (model.patch_embed.patch_size, model.patch_embed.grid_size) == ((8, 8), (2, 3))


@FAMILIES
def test_gradients_reach_patch_weight_and_positions(name: str) -> None:
    model = create(name, input_size=(16, 16), patch_size=8, num_classes=5, depth=2)
    AtPatchSize(model, 4)(torch.randn(2, 3, 16, 16)).square().sum().backward()
    for parameter in (model.patch_embed.proj.weight, model.pos_embed):
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0
    weight = model.patch_embed.proj.weight
    with torch.no_grad():
        direction = torch.randn_like(weight)
        losses = []
        for step in (-1e-3, 1e-3):
            moved = create(name, input_size=(16, 16), patch_size=8, num_classes=5, depth=2)
            moved.load_state_dict(model.state_dict())
            moved.patch_embed.proj.weight += step * direction
            losses.append(AtPatchSize(moved.train(), 4)(torch.ones(1, 3, 16, 16)).sum().item())
    model.zero_grad()
    AtPatchSize(model, 4)(torch.ones(1, 3, 16, 16)).sum().backward()
    assert weight.grad is not None
    slope = (weight.grad * direction).sum().item()
    assert (losses[1] - losses[0]) / 2e-3 == pytest.approx(slope, rel=0.05, abs=0.02)


def test_patch_sizes_are_drawn_by_the_batch_s_seed_and_are_those_of_its_parts() -> None:
    task = make_task(flexible_trial())
    indices = torch.arange(8)
    drawn = [task.batch(indices, seed, slice(0, 8)).targets[1] for seed in range(60)]
    assert set(drawn) == {8, 4, 2}
    assert drawn == [task.batch(indices, seed, slice(4, 8)).targets[1] for seed in range(60)]


def test_scores_are_those_of_a_plain_model_at_each_size() -> None:
    task = make_task(flexible_trial())
    model = task.build_model()
    cpu = torch.device("cpu")
    scores = evaluate(task, model, cpu, lambda: torch.autocast("cpu", enabled=False))
    losses = [scores[f"test_loss_p{size}"] for size in (8, 4, 2)]
    assert scores["test_loss"] == pytest.approx(sum(losses) / 3)
    plain = make_task(flexible_trial(task="classification", task_options={}))
    assert losses[0] == evaluate(plain, model, cpu, lambda: torch.autocast("cpu", enabled=False))["test_loss"]
    each = make_task(flexible_trial(task_options={"protocol": "one_each", "patch_sizes": [8, 4, 2]}))
    assert evaluate(each, model, cpu, lambda: torch.autocast("cpu", enabled=False)) == {
        "test_loss": losses[0], "top1": scores["top1_p8"], "top5": scores["top5_p8"]
    }  # fmt: skip


def test_training_flops_are_the_mean_over_the_sizes() -> None:
    config = flexible_trial()
    specs = [config.model.model_copy(update={"patch_size": size}) for size in (8, 4, 2)]
    wanted = sum(cost_of(spec, 10).flops_train for spec in specs) / 3
    assert cost_of_trial(config, 10).flops_train == round(wanted)
    assert cost_of_trial(config, 10).params == cost_of(config.model, 10).params


def test_what_does_not_fit_is_one_line() -> None:
    with pytest.raises(ValueError, match="needs patch_sizes"):
        flexible_trial(task_options={})
    with pytest.raises(InputError, match="patch_size 5 does not divide"):
        make_task(flexible_trial(task_options={"patch_sizes": [5]}))
    other = {"name": "vit_tiny_patch16_224", "patch_size": 8, "input_size": 16}
    task = make_task(flexible_trial(model=other))
    with pytest.raises(InputError, match="only models of patchscale"):
        task.loss(task.build_model(), task.batch(torch.arange(4), 0, slice(0, 4)))
    longer = create("deit_pico_patch16", input_size=(16, 16), patch_size=8, num_classes=5, sequence_extension=2)
    with pytest.raises(InputError, match="without sequence_extension"):
        AtPatchSize(longer, 4)


@pytest.mark.slow
def test_the_table_has_a_row_for_every_size_of_both_protocols(tmp_path: Path) -> None:
    settings = [
        "recipe.steps=8", "recipe.warmup_steps=2", "recipe.batch_size=16", "data.train_size=64", "data.test_size=40",
        "model.options={depth: 1}", "axes.model=[deit_pico_patch16]", "evaluations=3",
    ]  # fmt: skip
    outcome = run(load_study("flexible_patch", settings=settings), tmp_path / "run", workers=1)
    assert not outcome.failed
    table = results(tmp_path / "run")
    assert len(table) == 6
    assert table.groupby("task.protocol")["patch_size"].apply(sorted).tolist() == [[4, 8, 16], [4, 8, 16]]
    assert table.set_index(["task.protocol", "patch_size"])["tokens"].loc["one_for_all"].to_dict() == {
        16: 4, 8: 16, 4: 64,
    }  # fmt: skip
    flops = table.pivot(index="patch_size", columns="task.protocol", values="flops_per_image")
    assert (flops["one_each"] == flops["one_for_all"]).all()
    assert {law["group"]["task.protocol"] for law in outcome.laws["laws"]} == {"one_each", "one_for_all"}  # type: ignore
    assert not any("_p" in name and name.split("_p")[-1].isdigit() for name in table.columns)
    from patchscale import report

    assert report.build([RunDirectory(tmp_path / "run").path], tmp_path / "report.html").stat().st_size > 10_000
