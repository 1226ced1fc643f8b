"""Processes, placement and accumulation do not change what is trained."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from timm.layers.drop import DropPath
from torch import nn

from patchscale.models import create
from patchscale.training import read_metrics
from patchscale.training.drop_path import SampleDropPath, StochasticDepth
from patchscale.training.processes import Processes, divide
from tests.training.processes import run_all
from tests.training.trials import small_trial

TOLERANCE = 1e-5
"""Largest relative difference of a loss within 50 steps; what rounding in another order may grow to; seen: 3e-7."""
FORMS = {"one": (1, "ddp"), "ddp": (2, "ddp"), "fsdp": (2, "fsdp")}


def losses(folder: Path) -> torch.Tensor:
    lines = read_metrics(folder / "metrics.jsonl")
    return torch.tensor(
        [line["loss" if line["kind"] == "train" else "test_loss"] for line in lines], dtype=torch.float64
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deit_pico_patch16", "adventurer_pico_patch16"])
def test_processes_placement_and_accumulation_change_nothing(tmp_path: Path, name: str) -> None:
    """51 test samples and batches of 18 divide unevenly; stochastic depth, mixing, averaging and clipping are on."""
    runs = []
    for form, accumulation in itertools.product(FORMS, (1, 2, 4)):
        recipe = {"steps": 50, "batch_size": 18, "accumulation": accumulation}
        config = small_trial(name=name, recipe=recipe)
        config = config.model_copy(update={"data": config.data.model_copy(update={"test_size": 51})})
        size, parallel = FORMS[form]
        out = str(tmp_path / f"{form}-{accumulation}")
        runs.append({"config": config.model_dump(mode="json"), "out": out, "size": size, "parallel": parallel})
    run_all(tmp_path, runs)
    first = losses(tmp_path / "one-1")
    assert len(first) == 50 + 3
    for run in runs:
        worst = ((losses(Path(run["out"])) - first).abs() / first).max().item()
        print(f"{Path(run['out']).name}: largest relative difference of 53 losses {worst:.1e}")
        assert worst < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deit_pico_patch16", "adventurer_pico_patch16"])
def test_recomputed_blocks_train_the_same_in_every_placement(tmp_path: Path, name: str) -> None:
    kept = small_trial(name=name, recipe={"accumulation": 2})
    config = small_trial(name=name, recipe={"accumulation": 2, "recompute": True}).model_dump(mode="json")
    runs = [{"config": kept.model_dump(mode="json"), "out": str(tmp_path / "kept"), "size": 1, "parallel": "ddp"}]
    for form, (size, parallel) in FORMS.items():
        runs.append({"config": config, "out": str(tmp_path / form), "size": size, "parallel": parallel})
    run_all(tmp_path, runs)
    for run in runs[1:]:
        assert torch.allclose(losses(Path(run["out"])), losses(tmp_path / "kept"), rtol=TOLERANCE), run["out"]


@pytest.mark.slow
def test_a_checkpoint_serves_any_number_of_processes(tmp_path: Path) -> None:
    """The same trial, handed from one process to two with DDP, to two with FSDP2, and back."""
    config = small_trial(recipe={"accumulation": 1}).model_dump(mode="json")
    forms = [(1, "ddp", 3), (2, "ddp", 6), (2, "fsdp", 9), (1, "ddp", None)]
    run_all(
        tmp_path,
        [{"config": config, "out": str(tmp_path / "whole"), "size": 1, "parallel": "ddp"}]
        + [
            {"config": config, "out": str(tmp_path / "handed"), "size": size, "parallel": parallel, "stop": stop}
            for size, parallel, stop in forms
        ],
    )
    assert torch.allclose(losses(tmp_path / "whole"), losses(tmp_path / "handed"), rtol=TOLERANCE)
    one, other = (load_file(tmp_path / name / "checkpoints" / "last.safetensors") for name in ("whole", "handed"))
    assert one.keys() == other.keys()
    steps = [name for name in one if name.endswith(".step")]
    assert steps
    assert all(one[name] == other[name] == 12 for name in steps)


@pytest.mark.slow
def test_a_loss_that_is_not_finite_anywhere_stops_every_process(tmp_path: Path) -> None:
    recipe = {"learning_rate": 1e30, "clip_norm": None, "ema_decay": None, "warmup_steps": 0}
    config = small_trial(recipe=recipe).model_dump(mode="json")
    for parallel in ("ddp", "fsdp"):
        run = {"config": config, "out": str(tmp_path / parallel), "size": 2, "parallel": parallel}
        with pytest.raises(AssertionError) as failed:
            run_all(tmp_path, [run])
        assert "process 0: TrainingFailed: loss" in str(failed.value)
        assert "process 1: SaidElsewhere: loss" in str(failed.value)
        assert not (tmp_path / parallel / "result.json").exists()


def test_stochastic_depth_does_not_depend_on_the_division() -> None:
    cpu = torch.device("cpu")
    for name in ("deit_pico_patch16", "adventurer_pico_patch16"):
        model = create(name, input_size=(16, 16), patch_size=8, num_classes=5, drop_path=0.5, depth=4).train()
        depth = StochasticDepth(model)
        assert depth.layers
        assert not any(type(module) is DropPath for module in model.modules())
        images = torch.randn(9, 3, 16, 16)
        depth.draw(7, 9, slice(0, 9), cpu)
        whole = model(images)
        for edges in (4, 1, 8):
            parts = []
            for rows in (slice(0, edges), slice(edges, 9)):
                depth.draw(7, 9, rows, cpu)
                parts.append(model(images[rows]))
            assert torch.allclose(torch.cat(parts), whole, atol=1e-5)
        depth.draw(8, 9, slice(0, 9), cpu)
        assert not torch.allclose(model(images), whole, atol=1e-3)


def test_stochastic_depth_keeps_the_expectation() -> None:
    model = nn.Sequential(DropPath(0.25)).train()
    StochasticDepth(model).draw(3, 40_000, slice(None), torch.device("cpu"))
    assert isinstance(model[0], SampleDropPath)
    out = model(torch.ones(40_000, 1))
    assert out.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert out.mean().item() == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("total", "parts"), [(10, 3), (2, 4), (8, 8), (7, 1)])
def test_division_is_even_and_complete(total: int, parts: int) -> None:
    runs = divide(total, parts)
    lengths = [run.stop - run.start for run in runs]
    assert sum(lengths) == total
    assert max(lengths) - min(lengths) <= 1
    assert [run.start for run in runs] == [0, *itertools.accumulate(lengths)][:-1]


def test_one_process_agrees_with_itself() -> None:
    alone = Processes()
    assert alone.vote(True, False) == [True, False]
    assert alone.collect(3) == [3]
    assert alone.largest(3) == alone.share(3) == 3
    with pytest.raises(ZeroDivisionError), alone.together():
        _ = 1 / 0
