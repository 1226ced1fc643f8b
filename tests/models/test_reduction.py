"""A reducer before any block of any encoder, in training and without."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from patchscale.cost import estimate
from patchscale.cost.reduction import TokenReduction
from patchscale.errors import InputError
from patchscale.models import create, load_model, reduce_tokens, save_model
from patchscale.models.reduction import blocks_of, keeping
from patchscale.tokens.reducers import REDUCERS, auxiliary_loss

FAMILIES = ("deit_pico_patch16", "adventurer_pico_patch16")


def build(name: str = FAMILIES[0], **options):
    torch.manual_seed(0)
    arguments = {"input_size": (16, 24), "patch_size": 4, "num_classes": 5, **options}
    return create(name, **arguments)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("reducer", REDUCERS)
@pytest.mark.parametrize("before", [0, 2])
def test_any_reducer_before_any_block_trains(name, reducer, before):
    model = build(name, reducer=reducer, kept_tokens=7, reducer_options={"before": before}).train()
    images = torch.randn(2, 3, 16, 24)
    logits = model(images)
    assert logits.shape == (2, 5)
    (logits.square().sum() + auxiliary_loss(model)).backward()
    assert model.patch_embed.proj.weight.grad.abs().sum() > 0
    assert all(p.grad is not None for p in model.reduction.parameters())
    model.eval()
    with torch.no_grad():
        free = model(images)
        torch.testing.assert_close(free, model.forward_head(model.forward_features(images)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
def test_all_tokens_kept_is_the_plain_model(name):
    plain, images = build(name).eval(), torch.randn(2, 3, 16, 24)
    model = build(name, reducer="tome", kept_tokens=24).eval()
    model.load_state_dict(plain.state_dict())
    assert torch.equal(model(images), plain(images))


@pytest.mark.parametrize("name", FAMILIES)
def test_later_blocks_see_the_kept_rows_and_the_class_token(name):
    model = build(name, reducer="pool", kept_tokens=6, reducer_options={"before": 1}).eval()
    blocks = model.blocks if name.startswith("deit") else model.layers
    seen = []
    for block in blocks:
        block.register_forward_hook(lambda block, args, out: seen.append(out.shape[1]))
    model(torch.randn(1, 3, 16, 24))
    assert seen == [25, 7, 7, 7]


def test_any_timm_vit_takes_one():
    model = create(
        "vit_tiny_patch16_224", input_size=(32, 32), patch_size=8, num_classes=5, depth=2, reducer="qr", kept_tokens=4
    )
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 5)


def test_padding_of_adaptive_counts_changes_nothing():
    model = build(reducer="qr", kept_tokens=24, reducer_options={"tolerance": 0.1, "window": 24}).double().eval()
    images = torch.randn(6, 3, 16, 24, dtype=torch.float64)
    images[:3] = images[:3, :, :1, :1]
    counts = []
    model.reduction.reducer.register_forward_hook(lambda module, args, out: counts.append(out.counts.tolist()))
    together = model(images)
    assert len(set(counts[0])) > 1
    torch.testing.assert_close(together, torch.cat([model(image[None]) for image in images]))


def test_an_adventurer_says_that_it_cannot_pad():
    options = {"tolerance": 0.1, "window": 24}
    model = build(FAMILIES[1], reducer="qr", kept_tokens=24, reducer_options=options).eval()
    images = torch.randn(2, 3, 16, 24)
    images[0] = images[0, :, :1, :1]
    with pytest.raises(InputError, match="an Adventurer cannot mask padding"):
        model(images)
    assert model(images[:1]).shape == (1, 5)


def test_proportional_attention_of_equal_tokens_is_that_of_all():
    """Merging equal tokens loses nothing when attention counts them as many (ToMe, equation 1)."""
    model = build(reducer="tome", kept_tokens=6, positions="sincos", reducer_options={"proportional": True}).double()
    with torch.no_grad():
        model.pos_embed.zero_()
    plain = build(positions="sincos").double().eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    tiles = torch.randn(1, 3, 4, 12, dtype=torch.float64)
    images = tiles.repeat(1, 1, 4, 2)
    torch.testing.assert_close(model.eval()(images), plain(images))


def test_another_k_for_a_while():
    model = build(reducer="filtering", kept_tokens=8).eval()
    seen = []
    model.reduction.reducer.register_forward_hook(lambda module, args, out: seen.append(out.tokens.shape[1]))
    images = torch.randn(1, 3, 16, 24)
    with keeping(model, 3):
        model(images)
    model(images)
    assert seen == [3, 8]


def test_weights_remember_the_reducer_and_serve_another_k(tmp_path):
    model = build(reducer="filtering", kept_tokens=8, reducer_options={"before": 1}).eval()
    save_model(model, tmp_path / "w.safetensors")
    again, _ = load_model(tmp_path / "w.safetensors")
    images = torch.randn(2, 3, 16, 24)
    torch.testing.assert_close(again.eval()(images), model(images))
    other, report = load_model(tmp_path / "w.safetensors", kept_tokens=3)
    assert (other.reduction.kept_tokens, report.missing) == (3, [])


def test_a_deep_copy_reduces_by_its_own_parameters():
    model = build(reducer="filtering", kept_tokens=4).eval()
    twin, images = copy.deepcopy(model), torch.randn(1, 3, 16, 24)
    with torch.no_grad():
        for parameter in model.reduction.parameters():
            parameter.add_(1.0)
    assert not torch.equal(twin(images), model(images))


@pytest.mark.parametrize("name", FAMILIES)
def test_gradient_checkpointing_changes_nothing(name):
    model = build(name, reducer="filtering", kept_tokens=5, reducer_options={"before": 1}).train()
    images, grads = torch.randn(2, 3, 16, 24), []
    for enable in (False, True):
        model.zero_grad()
        model.set_grad_checkpointing(enable)
        loss = model(images).square().sum()
        (loss + auxiliary_loss(model)).backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("reducer", REDUCERS)
@pytest.mark.parametrize("before", [0, 3])
def test_counted_cost_is_the_models(reducer, before):
    model = build(reducer=reducer, kept_tokens=7, num_classes=10, reducer_options={"before": before}).eval()
    cost = estimate(
        "deit_pico_patch16",
        input_size=(16, 24),
        patch_size=4,
        num_classes=10,
        reduction=TokenReduction(reducer, 7, before),
    )
    assert sum(p.numel() for p in model.parameters()) == cost.params
    for block in model.blocks:
        block.attn.fused_attn = False  # the counter sees the products of attention only where they are separate
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.randn(1, 3, 16, 24))
    idle = 4 * 64**2 if reducer == "filtering_released" else 0  # an expert without tokens answers once a batch
    extra = counter.get_total_flops() - cost.flops_forward
    assert extra in [k * idle for k in range(7)]


def test_what_does_not_fit_is_named():
    for options, message in (
        ({"kept_tokens": 25}, "kept_tokens 25 is not between 1 and the 24 tokens"),
        ({"reducer_options": {"before": 4}}, "before 4 is no block of this model; use 0 to 3"),
        ({"reducer_options": {"class_token": "lost"}}, "unknown class_token 'lost'"),
        ({"kept_tokens": None}, "reducer tome needs kept_tokens"),
    ):
        with pytest.raises(InputError, match=message):
            build(reducer="tome", **{"kept_tokens": 4, **options})
    with pytest.raises(InputError, match="proportional needs attention"):
        build(FAMILIES[1], reducer="tome", kept_tokens=4, reducer_options={"proportional": True})
    with pytest.raises(InputError, match="has a reducer already"):
        reduce_tokens(build(reducer="tome", kept_tokens=4), "qr", 4)
    with pytest.raises(InputError, match="Linear has no blocks"):
        blocks_of(torch.nn.Linear(2, 2))
