"""The released models: the published tables cell by cell, their oddities, and MAE's weights in them."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import timm
import torch

import patchscale.models
from patchscale.cost import estimate
from patchscale.cost.reduction import TokenReduction
from patchscale.errors import InputError
from patchscale.laws import published
from patchscale.models import create, load_model, load_resized, resize_state_dict, save_model, trainable_parameters
from patchscale.models.checkpoints import write_state
from patchscale.models.flexible import AtPatchSize

SIZES = {"ViT-Ti": "tiny_patch16", "ViT-S": "small_patch16", "ViT-B": "base_patch16", "ViT-L": "large_patch16"}
SIZES["ViT-H"] = "huge_patch14"


def cells(metric: str) -> list[tuple[str, int, float]]:
    """(model, slots, value) of every published cell of tables 1, 2 and 3."""
    table = pd.concat([published(name) for name in ("T1", "T2", "T3")])
    slots = {row.model: row.value for row in table.itertuples() if row.metric == "mdl_tokens"}
    found = []
    for row in table.itertuples():
        if row.metric == metric:
            kept = slots[row.model] if math.isnan(row.tokens_kept) else row.tokens_kept
            found.append((row.model, int(kept), row.value))
    return found


@pytest.mark.parametrize(("size", "slots", "millions"), cells("params_million"))
def test_trainable_parameters_are_the_published_ones(size, slots, millions):
    model = timm.create_model(f"lct_vit_{SIZES[size]}", kept_tokens=slots, device="meta")
    assert trainable_parameters(model) / 1e6 == pytest.approx(millions, abs=0.1)
    cost = estimate(
        f"lct_vit_{SIZES[size]}",
        input_size=224,
        reduction=TokenReduction("filtering_released", slots, class_token="routed"),
    )
    assert cost.params_without_positions == trainable_parameters(model)


@pytest.mark.parametrize(("size", "slots", "gflops"), cells("gflops"))
def test_gflops_are_the_published_ones_in_their_convention(size, slots, gflops):
    """Multiply-adds, without the two products of attention."""
    reduction = TokenReduction("filtering_released", slots, class_token="routed")
    cost = estimate(f"lct_vit_{SIZES[size]}", input_size=224, reduction=reduction)
    attention = sum(t.flops for t in cost.terms if t.name.startswith("attention_"))
    assert (cost.flops_forward - attention) / 2e9 == pytest.approx(gflops, rel=0.03)


def tiny(**options):
    arguments = {"input_size": (32, 32), "patch_size": 8, "num_classes": 5, "embed_dim": 24, "depth": 2}
    return create("lct_vit_tiny_patch16", **{**arguments, "num_heads": 3, "kept_tokens": 6, **options})


def test_blocks_see_slots_and_the_head_drops_slot_0():
    model = tiny().eval()
    seen = []
    model.blocks[1].register_forward_pre_hook(lambda block, args: seen.append(args[0].shape))
    images = torch.randn(2, 3, 32, 32)
    features = model.forward_features(images)
    assert seen == [(2, 6, 24)]
    torch.testing.assert_close(model(images), model.head(model.fc_norm(features[:, 1:].mean(1))))


def test_as_many_slots_as_rows_are_no_slots():
    model = tiny(kept_tokens=16).eval()
    assert model.forward_features(torch.randn(1, 3, 32, 32)).shape == (1, 16, 24)
    with pytest.raises(InputError, match="kept_tokens 17 is not between 1 and the 16 tokens"):
        tiny(kept_tokens=17)


def test_positions_are_maes():
    """MAE's `get_2d_sincos_pos_embed`: a meshgrid with the column first."""
    model = create("lct_vit_tiny_patch16", input_size=(32, 48), patch_size=16, num_classes=0, kept_tokens=4)
    dim, (rows, cols) = 192, (2, 3)

    def encode(position):
        omega = 1.0 / 10_000 ** (np.arange(dim // 4) / (dim / 4.0))
        return np.concatenate([np.sin(position * omega), np.cos(position * omega)])

    expected = [np.concatenate([encode(col), encode(row)]) for row in range(rows) for col in range(cols)]
    np.testing.assert_allclose(model.pos_embed[0, 1:].numpy(), np.array(expected), atol=1e-6)
    assert (model.pos_embed[0, 0] == 0).all()
    assert not model.pos_embed.requires_grad


def test_positions_are_maes_at_another_patch_size():
    model, fine = tiny().eval(), tiny(patch_size=4).eval()
    moved, _ = resize_state_dict(model.state_dict(), fine)
    fine.load_state_dict({"pos_embed": fine.pos_embed} | moved)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(AtPatchSize(model, 4)(images), fine(images))


def test_mae_weights_load(tmp_path):
    donor = create("deit_tiny_patch16", input_size=(32, 32), patch_size=16, num_classes=0, depth=2)
    state = {key: value for key, value in donor.state_dict().items() if not key.startswith("norm.")}
    write_state(tmp_path / "mae.safetensors", state, {"model": "mae", "input_size": [32, 32], "patch_size": 16})
    model = create("lct_vit_tiny_patch16", input_size=(32, 32), patch_size=8, num_classes=5, depth=2, kept_tokens=4)
    report = load_resized(model, tmp_path / "mae.safetensors")
    assert "patch_embed.proj.weight" in report.resized
    assert set(report.reinitialised) == {"pos_embed"}
    assert all(key.startswith(("reduction.", "fc_norm.", "head.")) for key in report.missing)
    torch.testing.assert_close(model.blocks[1].mlp.fc1.weight, donor.blocks[1].mlp.fc1.weight)


def test_weights_remember_their_slots(tmp_path):
    model = tiny().eval()
    save_model(model, tmp_path / "weights.safetensors")
    again, report = load_model(tmp_path / "weights.safetensors")
    assert not report.missing
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(again.eval()(images), model(images))


def test_only_its_own_reducer():
    with pytest.raises(InputError, match="lct_vit_tiny_patch16 has its own reducer"):
        tiny(reducer="tome")
    assert patchscale.models.LctViT.__name__ == type(tiny()).__name__
