"""Names, parameter counts, `create` and timm's conventions, for both families."""

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay

import patchscale.models
from patchscale.cost.shapes import SHAPES
from patchscale.errors import InputError

COUNTS = {  # millions, at 224 pixels, patch 16, 1,000 classes, positions included
    "deit": {"tiny": 5.72, "small": 22.05, "base": 86.57, "large": 304.33, "huge": 632.20},
    "adventurer": {"tiny": 11.61, "small": 44.49, "base": 98.66, "large": 346.20, "huge": 718.03},
}


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def build(name, **options):
    arguments = {"input_size": (16, 24), "patch_size": 4, "num_classes": 5, **options}
    return patchscale.models.create(name, **arguments)


@pytest.mark.parametrize(("family", "size"), [(f, s) for f, sizes in COUNTS.items() for s in sizes])
def test_parameter_counts(family, size):
    model = timm.create_model(f"{family}_{size}_patch16", device="meta")
    assert round(parameters(model) / 1e6, 2) == COUNTS[family][size]


@pytest.mark.parametrize(("p", "millions"), [(4, 100.4), (2, 107.6), (1, 136.5)])
def test_base_counts_at_other_patch_sizes(p, millions):
    model = timm.create_model("adventurer_base_patch16", patch_size=p, device="meta")
    assert round(parameters(model) / 1e6, 1) == millions
    if p == 1:
        assert round(model.pos_embed.numel() / 1e6, 1) == 38.5


def test_every_name_is_registered_and_follows_the_shape_table():
    for name, shape in SHAPES.items():
        assert timm.is_model(name)
        model = timm.create_model(name, img_size=32, depth=1, device="meta")
        assert model.embed_dim == shape.embed_dim
        assert model.patch_embed.patch_size == (shape.patch_size, shape.patch_size)
        hidden = model.blocks[0].mlp.fc1 if shape.family == "deit" else model.layers[0].mlp.w1
        assert hidden.out_features == shape.mlp_hidden


def test_any_size_by_timm():
    model = timm.create_model("adventurer_base_patch16", img_size=(160, 224), patch_size=4, depth=1, device="meta")
    assert model.patch_embed.grid_size == (40, 56)


@pytest.mark.parametrize("name", ["deit_pico_patch16", "adventurer_pico_patch16"])
@pytest.mark.parametrize("positions", ["learned", "sincos"])
def test_forward_backward(name, positions):
    model = build(name, positions=positions, drop_path=0.1)
    logits = model(torch.randn(2, 3, 16, 24))
    assert logits.shape == (2, 5)
    logits.square().sum().backward()
    for key, parameter in model.named_parameters():
        assert (parameter.grad is not None and parameter.grad.abs().max() > 0) == parameter.requires_grad, key
    assert model.pos_embed.requires_grad == (positions == "learned")


@pytest.mark.parametrize("name", ["deit_pico_patch16", "adventurer_pico_patch16"])
class TestTimmConventions:
    def test_features_and_head(self, name):
        model, images = build(name).eval(), torch.randn(2, 3, 16, 24)
        features = model.forward_features(images)
        assert features.shape == (2, 25, 64)
        torch.testing.assert_close(model.forward_head(features), model(images))
        assert model.forward_head(features, pre_logits=True).shape == (2, 64)

    def test_reset_classifier(self, name):
        model, images = build(name).eval(), torch.randn(2, 3, 16, 24)
        model.reset_classifier(7)
        assert model(images).shape == (2, 7)
        model.reset_classifier(0, "avg")
        assert model(images).shape == (2, 64)

    def test_intermediates(self, name):
        model, images = build(name).eval(), torch.randn(2, 3, 16, 24)
        final, maps = model.forward_intermediates(images, indices=[1, 3], norm=True)
        assert [m.shape for m in maps] == [(2, 64, 4, 6)] * 2
        torch.testing.assert_close(final, model.forward_features(images))
        patches = final[:, 1:] if name.startswith("deit") else final[:, :-1]
        torch.testing.assert_close(maps[-1].flatten(2).transpose(1, 2), patches)
        pair = model.forward_intermediates(
            images, 1, return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
        )
        assert [t.shape for t in pair[0]] == [(2, 24, 64), (2, 1, 64)]

    def test_features_only(self, name):
        model = timm.create_model(name, img_size=(16, 24), patch_size=4, features_only=True, out_indices=(0, 3))
        assert [m.shape for m in model(torch.randn(1, 3, 16, 24))] == [(1, 64, 4, 6)] * 2

    def test_grad_checkpointing_changes_nothing(self, name):
        model, images = build(name), torch.randn(2, 3, 16, 24)
        grads = []
        for enable in (False, True):
            model.zero_grad()
            model.set_grad_checkpointing(enable)
            model(images).square().sum().backward()
            grads.append([p.grad.clone() for p in model.parameters()])
        for a, b in zip(*grads, strict=True):
            torch.testing.assert_close(a, b)

    def test_parameter_groups(self, name):
        model = build(name)
        assert {"pos_embed", "cls_token"} <= model.no_weight_decay()
        groups = param_groups_layer_decay(model, 0.05, model.no_weight_decay(), layer_decay=0.9)
        scales = {g["lr_scale"] for g in groups}
        assert len(scales) == 4 + 2  # stem, four blocks, norm and head
        decayed = {id(p) for g in groups if g["weight_decay"] > 0 for p in g["params"]}
        for key, parameter in model.named_parameters():
            assert (id(parameter) in decayed) == (parameter.ndim > 1 and key not in ("pos_embed", "cls_token")), key

    def test_set_input_size(self, name):
        model = build(name).eval()
        model.set_input_size(img_size=(24, 16), patch_size=2)
        assert model.patch_embed.grid_size == (12, 8)
        assert model(torch.randn(1, 3, 24, 16)).shape == (1, 5)


def test_create_names_what_is_wrong():
    with pytest.raises(InputError, match=r"unknown model 'adventurer_tinny_patch16'; use one of adventurer_tiny"):
        build("adventurer_tinny_patch16")
    with pytest.raises(InputError, match="patch_size 5 does not divide image height 16"):
        build("deit_pico_patch16", patch_size=5)
    with pytest.raises(InputError, match="does not take these arguments"):
        build("deit_pico_patch16", number_of_heads=3)
    with pytest.raises(InputError, match="unknown positions 'rope'"):
        build("adventurer_pico_patch16", positions="rope")


def test_other_timm_models_can_be_created():
    model = build("vit_tiny_patch16_224", depth=1)
    assert model(torch.randn(1, 3, 16, 24)).shape == (1, 5)
