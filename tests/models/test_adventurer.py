"""The Adventurer against the numeric fixture, its rules, and timm's conventions."""

import json
import math
import zlib

import pytest
import timm
import torch
from safetensors import safe_open

import patchscale.models
from patchscale.errors import InputError
from patchscale.models.adventurer import drop_path_rates, flipped_blocks
from patchscale.models.block import reverse_tokens
from tests.needs import absent


def named_tensor(name, shape):
    """The fixture's weights: each tensor is made from its name."""
    seed = zlib.crc32(name.encode())
    r = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if name.endswith("A_log"):
        return torch.log(1 + 15 * torch.rand(shape, generator=torch.Generator().manual_seed(seed)))
    if name.endswith("dt_bias"):
        return -3 + 0.7 * r
    if name.endswith(".D"):
        return 1 + 0.1 * r
    if "norm" in name:
        return 1 + 0.1 * r
    if "conv1d.weight" in name:
        return 0.3 * r
    if name in ("pos_embed", "cls_token"):
        return 0.2 * r
    if len(shape) >= 2:
        return r / math.sqrt(r[0].numel())
    return 0.05 * r


def filled(model):
    model.load_state_dict({k: named_tensor(k, tuple(v.shape)) for k, v in model.state_dict().items()})
    return model


def small(**options):
    arguments = {"img_size": 16, "patch_size": 4, "embed_dim": 64, "depth": 4, "num_classes": 5, **options}
    return timm.create_model("adventurer_pico_patch16", **arguments)


def test_the_numeric_fixture_agrees(real_data):
    path = real_data.parent / "reference" / "adventurer_a.safetensors"
    if not path.is_file():
        absent(f"the numeric fixture is not there: {path}")
    with safe_open(path, "pt") as file:
        want = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        config = json.loads(file.metadata()["config"])
    model = filled(timm.create_model("adventurer_tiny_patch16", flip="released", **config))
    image = want["image"].float().requires_grad_()
    features = model.forward_features(image)
    logits = model.forward_head(features)
    (logits * torch.linspace(-1, 1, logits.shape[-1])).sum().backward()

    def close(got, key):
        expected = want[key].double()
        error = (got.detach().double().reshape(expected.shape) - expected).abs().max() / expected.abs().max()
        assert error < 1e-4, (key, error.item())

    close(logits, "logits")
    close(features[:, -1], "features")
    close(image.grad, "input_grad")
    named = dict(model.named_parameters())
    assert {f"gradnorm.{name}" for name in named} == {key for key in want if key.startswith("gradnorm.")}
    for name, parameter in named.items():
        close(parameter.grad.double().norm(), f"gradnorm.{name}")


@pytest.mark.parametrize(
    "options",
    [
        {"img_size": (5, 7), "patch_size": 1},
        {"embed_dim": 96, "depth": 5, "flip": "released"},
        {"img_size": (8, 24), "embed_dim": 32, "depth": 2},
        {"headdim": 16, "d_state": 24, "d_conv": 3, "expand": 1, "embed_dim": 48},
    ],
)
def test_float32_agrees_with_a_stepwise_float64_model(options):
    model = filled(small(**options))
    exact = filled(small(**options, backend="reference")).double()
    # A fixed draw: a gradient that happens to cancel almost to zero has no relative error worth bounding.
    images = torch.randn(2, 3, *model.patch_embed.img_size, generator=torch.Generator().manual_seed(0))
    results = []
    for net, x in ((model, images.clone()), (exact, images.double())):
        x.requires_grad_()
        logits = net(x)
        (logits * torch.linspace(-1, 1, 5).to(x)).sum().backward()
        grads = {name: p.grad.double() for name, p in net.named_parameters()}
        results.append({"logits": logits.detach().double(), "input": x.grad.double(), **grads})
    for name, want in results[1].items():
        error = (results[0][name] - want).norm() / want.norm()
        assert error < 1e-4, (name, error.item())


def test_flip_rules():
    assert flipped_blocks(12, "released") == (2, 3)
    assert flipped_blocks(12, "paper") == (2, 3, 6, 7, 10, 11)
    assert [i for i, b in enumerate(small(depth=8).layers) if b.flip] == [2, 3, 6, 7]
    with pytest.raises(InputError, match="unknown flip rule 'both'"):
        small(flip="both")


def test_reversal_keeps_the_class_row_and_undoes_itself():
    x = torch.randn(2, 6, 3)
    y = reverse_tokens(x)
    torch.testing.assert_close(y[:, 0], x[:, 4])
    torch.testing.assert_close(y[:, -1], x[:, -1])
    torch.testing.assert_close(reverse_tokens(y), x)


def test_drop_path_rule():
    assert drop_path_rates(0.3, 4) == pytest.approx([0.0, 0.0, 0.1, 0.2])
    assert len(drop_path_rates(0.3, 1)) == 1


def test_state_dict_has_the_released_names():
    state = timm.create_model(
        "adventurer_tiny_patch16", img_size=32, patch_size=4, embed_dim=128, depth=2, num_classes=10
    ).state_dict()
    expected = {
        "cls_token": [1, 1, 128],
        "pos_embed": [1, 65, 128],
        "patch_embed.proj.weight": [128, 3, 4, 4],
        "patch_embed.proj.bias": [128],
        "norm_f.weight": [128],
        "head.weight": [10, 128],
        "head.bias": [10],
    }
    for i in range(2):
        expected |= {
            f"layers.{i}.{name}": shape
            for name, shape in {
                "norm.weight": [128],
                "mixer.in_proj.weight": [644, 128],
                "mixer.conv1d.weight": [384, 1, 4],
                "mixer.conv1d.bias": [384],
                "mixer.dt_bias": [4],
                "mixer.A_log": [4],
                "mixer.D": [4],
                "mixer.norm.weight": [256],
                "mixer.out_proj.weight": [128, 256],
                "norm_mlp.weight": [128],
                "mlp.w1.weight": [320, 128],
                "mlp.w1.bias": [320],
                "mlp.w2.weight": [320, 128],
                "mlp.w2.bias": [320],
                "mlp.w3.weight": [128, 320],
                "mlp.w3.bias": [128],
            }.items()
        }
    assert {key: list(value.shape) for key, value in state.items()} == expected


def test_bf16_autocast_keeps_the_dynamics_in_float32():
    model = filled(small())
    images = torch.randn(2, 3, 16, 16)
    exact = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
        logits.float().sum().backward()
    assert model.layers[0].mixer.A_log.grad.dtype == torch.float32
    assert (logits.float() - exact).norm() / exact.norm() < 0.05


def test_batch_rows_do_not_mix():
    model, images = filled(small()).eval(), torch.randn(3, 3, 16, 16)
    torch.testing.assert_close(model(images)[1:2], model(images[1:2]), atol=1e-5, rtol=1e-4)


def test_dynamic_image_size():
    model = filled(small(dynamic_img_size=True)).eval()
    fixed = filled(small()).eval()
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(model(images), fixed(images))
    assert model(torch.randn(2, 3, 24, 32)).shape == (2, 5)
    with pytest.raises(InputError, match="patch_size 4 does not divide image height 18"):
        model(torch.randn(2, 3, 18, 16))


def test_sincos_positions_are_fixed_with_a_zero_class_row():
    model = patchscale.models.create(
        "adventurer_pico_patch16", input_size=(16, 24), patch_size=4, num_classes=3, positions="sincos"
    )
    assert not model.pos_embed.requires_grad
    assert model.pos_embed[0, -1].abs().max() == 0
    before = model.pos_embed[0, :-1].clone()
    model.set_input_size((24, 16))
    assert model.pos_embed.shape == (1, 25, 64)
    assert not torch.equal(before, model.pos_embed[0, :-1])


def test_widths_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match="not a multiple of headdim 64; use a multiple of 32"):
        small(embed_dim=40)
