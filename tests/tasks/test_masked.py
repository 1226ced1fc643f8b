"""Masked autoencoding: what the encoder may know, what the loss counts, and where its weights go."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from patchscale.errors import InputError
from patchscale.models import create, load_model
from patchscale.tasks import ModelSpec, build_network, evaluate
from patchscale.tokens import patchify
from patchscale.training import TrialConfig, load_weights, make_task, train
from patchscale.training.costs import cost_of_trial
from patchscale.training.use import predict_images

OPTIONS = {"mask_ratio": 0.75, "decoder_depth": 1, "decoder_dim": 32, "decoder_heads": 2}
FAMILIES = pytest.mark.parametrize("name", ["deit_pico_patch16", "adventurer_pico_patch16"])


def plain():
    return torch.autocast("cpu", enabled=False)


def masked_trial(name: str, **changes) -> TrialConfig:
    """Twelve steps on 16-pixel digits cut into 4-pixel patches."""
    content = {
        "task": "masked",
        "task_options": OPTIONS,
        "model": {"name": name, "patch_size": 4, "input_size": 16, "positions": "sincos", "options": {"depth": 2}},
        "data": {"name": "digits_in_clutter", "train_size": 64, "test_size": 50, "digit_size": 8},
        "recipe": {
            "steps": 12, "batch_size": 16, "learning_rate": 3e-3, "precision": "float32",
            "augment": {"horizontal_flip": 0.5},
        },
        "evaluations": 2,
    }  # fmt: skip
    return TrialConfig.model_validate(content | changes)


@FAMILIES
def test_predictions_depend_on_visible_patches_alone(name: str) -> None:
    task = make_task(masked_trial(name))
    model = task.build_model().eval()
    batch = task.batch(torch.arange(6), 3, slice(0, 6))
    assert batch.targets.shape == (6, 4)
    assert (batch.targets.diff(dim=1) > 0).all()
    hidden = torch.ones(6, 16).scatter(1, batch.targets, 0.0).reshape(6, 1, 4, 4)
    hidden = hidden.repeat_interleave(4, 2).repeat_interleave(4, 3)
    other = torch.where(hidden.bool(), torch.randn(6, 3, 16, 16), batch.inputs)
    seen = torch.where(hidden.bool(), batch.inputs, torch.randn(6, 3, 16, 16))
    with torch.no_grad():
        assert torch.equal(model(batch.inputs, batch.targets), model(other, batch.targets))
        assert not torch.allclose(model(batch.inputs, batch.targets), model(seen, batch.targets))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("vit_base_patch16_clip_224", {}),  # a norm before the blocks
        ("deit3_small_patch16_224", {}),  # no position for the class token
        ("vit_base_patch16_siglip_224", {}),  # no class token
        ("vit_small_patch16_dinov3", {}),  # rotary positions
        ("vit_tiny_patch16_224", {"reg_tokens": 4}),
        ("deit_pico_patch16", {"class_token": False, "global_pool": "avg"}),
    ],
)
def test_an_encoder_that_needs_more_than_class_token_and_patches_is_refused(name: str, options: dict) -> None:
    spec = ModelSpec(name=name, patch_size=4, input_size=(16, 16), options={"depth": 1, **options})
    with torch.device("meta"), pytest.raises(InputError, match=f"task masked runs .*, and {name} needs more"):
        build_network("masked", spec, 0, OPTIONS)


@pytest.mark.parametrize("name", ["deit_pico_patch16", "adventurer_pico_patch16", "vit_tiny_patch16_224"])
def test_with_every_patch_visible_the_encoder_is_the_plain_one(name: str) -> None:
    spec = ModelSpec(name=name, patch_size=4, input_size=(12, 16), options={"depth": 3})
    model = build_network("masked", spec, 0, OPTIONS).eval()
    images = torch.randn(2, 3, 12, 16)
    with torch.no_grad():
        whole = model.encoder.forward_features(images)
        tokens = whole[:, :-1] if name.startswith("adventurer") else whole[:, 1:]
        torch.testing.assert_close(model.encode(images, torch.arange(12).expand(2, -1)), tokens, rtol=1e-4, atol=1e-5)


def test_the_loss_is_the_error_of_masked_patches_normalised_one_by_one() -> None:
    task = make_task(masked_trial("deit_pico_patch16"))
    model = task.build_model()
    batch = task.batch(torch.arange(5), 0, slice(0, 5))
    predicted = model(batch.inputs, batch.targets).detach()
    total = 0.0
    for image, visible, guess in zip(batch.inputs, batch.targets.tolist(), predicted, strict=True):
        errors = []
        for place, patch in enumerate(patchify(image[None], 4)[0]):
            if place not in visible:
                wanted = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
                errors.append((guess[place] - wanted).square().mean().item())
        assert len(errors) == 12
        total += sum(errors) / 12
    assert task.loss(model, batch).item() == pytest.approx(total / 5, rel=1e-5)


@pytest.mark.parametrize("edges", [(0, 8, 16), (0, 5, 11, 16)])
def test_a_batch_in_parts_is_the_batch(edges: tuple[int, ...]) -> None:
    task = make_task(masked_trial("deit_pico_patch16"))
    whole = task.batch(torch.arange(16), 7, slice(0, 16))
    parts = [task.batch(torch.arange(16), 7, slice(low, high)) for low, high in pairwise(edges)]
    assert torch.equal(whole.inputs, torch.cat([part.inputs for part in parts]))
    assert torch.equal(whole.targets, torch.cat([part.targets for part in parts]))
    assert len({tuple(row) for row in whole.targets.tolist()}) > 12


def test_the_test_loss_has_fixed_masks_and_no_division_matters() -> None:
    task = make_task(masked_trial("deit_pico_patch16"))
    model = task.build_model().eval()
    whole = evaluate(task, model, torch.device("cpu"), plain)
    assert whole == evaluate(task, model, torch.device("cpu"), plain)
    with torch.no_grad():
        measured = task.measure(model, torch.device("cpu"), plain, torch.arange(50))
    order = torch.randperm(50, generator=torch.Generator().manual_seed(1))
    parts = [type(measured)(*(field[rows] for field in measured)) for rows in (order[:13], order[13:])]
    assert task.scores(parts) == whole


def test_counted_cost_is_the_model_s() -> None:
    config = masked_trial("deit_pico_patch16")
    cost = cost_of_trial(config, 0)
    with torch.device("meta"), torch.no_grad():
        model = build_network("masked", config.model, 0, OPTIONS)
        with FlopCounterMode(display=False) as counter:
            model(torch.zeros(1, 3, 16, 16), torch.zeros(1, 4, dtype=torch.long))
    assert cost.params == sum(parameter.numel() for parameter in model.parameters())
    assert cost.flops_forward == counter.get_total_flops()


@FAMILIES
def test_pretrained_weights_start_a_classification_at_another_patch_size(name: str, tmp_path: Path) -> None:
    row = train(masked_trial(name), tmp_path / "masked")
    assert row["test_loss"] < 1.2
    weights = tmp_path / "masked" / "weights.safetensors"
    assert load_weights(weights).classes == ()
    assert load_model(weights)[0](torch.zeros(1, 3, 16, 16)).shape == (1, 64)
    with pytest.raises(InputError, match="masked autoencoder's, without classes"):
        predict_images([], weights, tmp_path)
    model = masked_trial(name).model.model_dump() | {"patch_size": 8, "positions": "learned"}
    config = masked_trial(name, task="classification", task_options={}, model=model, init={"weights": str(weights)})
    train(config, tmp_path / "classified")
    taken = (tmp_path / "classified" / "init.txt").read_text()
    assert "resized        patch_embed.proj.weight: [64, 3, 4, 4] -> [64, 3, 8, 8]" in taken
    lines = taken.splitlines()
    assert {line.split()[1].split(".")[0] for line in lines if line.startswith("missing")} == {"head"}
    left_over = [line.split()[2] for line in lines if line.startswith("left over")]
    others = [key for key in load_weights(weights).model.state_dict() if not key.startswith("encoder.")]
    assert sorted(left_over) == sorted(others)
    plain_model = create(name, input_size=(16, 16), patch_size=8, num_classes=0, depth=2)
    assert f"{len(plain_model.state_dict()) - 2} keys loaded, 2 resized" in taken


def test_what_cannot_be_masked_is_one_line() -> None:
    whole = {"name": "deit_pico_patch16", "patch_size": 16, "input_size": 16}
    with pytest.raises(InputError, match="at least two patches; 16 at patch size 16 has one"):
        make_task(masked_trial("deit_pico_patch16", model=whole))
    recipe = masked_trial("deit_pico_patch16").recipe.model_dump() | {"label_smoothing": 0.1}
    with pytest.raises(InputError, match="no labels to mix or smooth"):
        make_task(masked_trial("deit_pico_patch16", recipe=recipe))
    with pytest.raises(ValueError, match="decoder_dim 30"):
        masked_trial("deit_pico_patch16", task_options={"decoder_dim": 30})
