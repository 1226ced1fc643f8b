"""Longer sequences without new information: both families, counted, saved and loaded."""

from __future__ import annotations

import pytest
import torch

from patchscale.errors import InputError
from patchscale.models import create
from patchscale.models.checkpoints import load_model, save_model
from patchscale.tasks import TASKS, ModelSpec, build_network
from patchscale.training import TrialConfig
from patchscale.training.costs import cost_of

NAMES = ["deit_pico_patch16", "adventurer_pico_patch16"]


def build(name: str, extension: int = 2, **changes):
    arguments = {"input_size": (16, 24), "patch_size": 8, "num_classes": 5, "sequence_extension": extension} | changes
    return create(name, **arguments)


@pytest.mark.parametrize("name", NAMES)
def test_the_longer_sequence_is_the_interpolated_one(name):
    torch.manual_seed(0)
    model, images = build(name, 3), torch.randn(2, 3, 16, 24)
    coarse = build(name, 1).patch_embed
    coarse.load_state_dict(model.patch_embed.state_dict())
    grid = coarse(images).transpose(1, 2).unflatten(2, (2, 3))
    finer = torch.nn.functional.interpolate(grid, scale_factor=3, mode="bilinear")
    torch.testing.assert_close(model.patch_embed(images), finer.flatten(2).transpose(1, 2))
    assert model.patch_embed.grid_size == (6, 9)
    assert model.pos_embed.shape[1] == 6 * 9 + 1


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dynamic", [False, True])
def test_training_and_inference_agree(name, dynamic):
    model = build(name, dynamic_img_size=dynamic).eval()
    images = torch.randn(2, 3, 16, 24)
    with torch.no_grad():
        plain = model(images)
    torch.testing.assert_close(model(images), plain, atol=1e-5, rtol=1e-5)
    maps = model.forward_intermediates(images, indices=1, intermediates_only=True)
    assert maps[0].shape[2:] == (4, 6)


@pytest.mark.parametrize("name", NAMES)
def test_counts_know_the_longer_sequence(name):
    spec = ModelSpec(name=name, patch_size=8, input_size=(16, 24), sequence_extension=2)
    cost = cost_of(spec, num_classes=5)
    assert spec.tokens == cost.tokens == 24
    assert cost.params == sum(parameter.numel() for parameter in build(name).parameters())
    fine = cost_of(ModelSpec(name=name, patch_size=4, input_size=(16, 24)), num_classes=5)
    blocks = [sum(term.flops for term in one.terms if term.stage == "blocks") for one in (cost, fine)]
    assert blocks[0] == blocks[1]


@pytest.mark.parametrize("name", NAMES)
def test_weights_remember_the_extension_and_move(name, tmp_path):
    model = build(name).eval()
    save_model(model, tmp_path / "weights.safetensors")
    again, _ = load_model(tmp_path / "weights.safetensors")
    images = torch.randn(1, 3, 16, 24)
    torch.testing.assert_close(again.eval()(images), model(images))
    moved, report = load_model(tmp_path / "weights.safetensors", input_size=(32, 24))
    assert moved.patch_embed.grid_size == (8, 6)
    assert "pos_embed" in report.resized


def trial(task: str, **model) -> TrialConfig:
    options = {"flexible_classification": {"patch_sizes": [8, 4]}}
    content = {
        "task": task,
        "task_options": options.get(task, {}),
        "model": {"name": "deit_pico_patch16", "patch_size": 8, "input_size": 16} | model,
        "data": {"name": "digits_in_clutter"},
        "recipe": {"steps": 1},
    }
    return TrialConfig.model_validate(content)


@pytest.mark.parametrize("task", sorted(set(TASKS) - {"classification", "segmentation"}))
def test_a_task_that_goes_by_the_grid_of_the_patches_refuses_a_longer_sequence(task):
    trial(task)
    with pytest.raises(ValueError, match=f"task {task} goes by the grid of the patches; leave out .*extension 2"):
        trial(task, sequence_extension=2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("decoder", ["upernet", "linear"])
def test_segmentation_reads_the_longer_sequence_at_any_size(name, decoder):
    spec = trial("segmentation", name=name, sequence_extension=2).model
    model = build_network("segmentation", spec, 3, {"decoder": decoder, "channels": 8}).eval()
    assert model.features(torch.zeros(1, 3, 16, 16))[-1].shape[2:] == (4, 4)
    assert model(torch.zeros(1, 3, 16, 16)).shape == (1, 3, 16, 16)
    assert model(torch.zeros(1, 3, 32, 24)).shape == (1, 3, 32, 24)


@pytest.mark.parametrize("task", sorted(set(TASKS) - {"classification"}))
@pytest.mark.parametrize("kept", [{}, {"kept_tokens": 2}])
def test_a_task_that_needs_every_token_refuses_a_model_that_reduces_them(task, kept):
    with pytest.raises(ValueError, match=f"task {task} needs every token; lct_vit_tiny_patch16 reduces them"):
        trial(task, name="lct_vit_tiny_patch16", **kept)


def test_an_extension_below_one_is_refused():
    with pytest.raises(InputError, match="sequence_extension 0 is below 1"):
        build(NAMES[0], 0)
