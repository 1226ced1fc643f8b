"""Weights in and out: metadata, resizing with a report, published pickles, hub folders, ONNX."""

import argparse
import os
import warnings
from typing import Any

import pytest
import timm
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

import patchscale.models as models
from patchscale.cli.model import export as export_command
from patchscale.errors import InputError
from patchscale.models import export
from patchscale.models.checkpoints import write_state
from patchscale.tasks import ModelSpec, build_network


def build(name="adventurer_pico_patch16", **options):
    arguments = {"input_size": (16, 24), "patch_size": 4, "num_classes": 5, **options}
    return models.create(name, **arguments).eval()


def same_outputs(a, b, size=(16, 24)):
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        torch.testing.assert_close(a.eval()(images), b.eval()(images))


@pytest.mark.parametrize("name", ["deit_pico_patch16", "adventurer_pico_patch16"])
@pytest.mark.parametrize("options", [{}, {"positions": "sincos"}, {"embed_dim": 128, "depth": 2, "num_heads": 2}])
def test_saved_models_come_back(tmp_path, name, options):
    if name.startswith("adventurer"):
        options = {k: v for k, v in options.items() if k != "num_heads"} | {"flip": "released"}
    model = build(name, **options)
    models.save_model(model, tmp_path / "w.safetensors")
    again, report = models.load_model(tmp_path / "w.safetensors")
    same_outputs(model, again)
    assert not report.resized
    assert not report.missing
    assert not report.left_over
    assert models.model_config(again) == models.model_config(model)


def test_any_timm_vit_and_timm_built_models_come_back(tmp_path):
    vit = build("vit_tiny_patch16_224", depth=2, drop_path=0.1)
    ours = timm.create_model("adventurer_pico_patch1", img_size=(16, 24), patch_size=4, depth=3, flip="released")
    for model in (vit, ours):
        models.save_model(model, tmp_path / "w.safetensors")
        again, _ = models.load_model(tmp_path / "w.safetensors")
        same_outputs(model, again)
    assert again.flip == "released"


@pytest.mark.parametrize("name", ["deit_pico_patch16", "adventurer_pico_patch16", "vit_tiny_patch16_224"])
@pytest.mark.parametrize(("built", "now"), [("token", "avg"), ("avg", "token"), ("avg", ""), ("token", "token")])
def test_the_pooling_comes_back_as_it_is(tmp_path, name, built, now):
    """timm puts the last norm before or behind the pooling when it builds, and leaves it there."""
    model = build(name, depth=2, global_pool=built)
    model.reset_classifier(5, now)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    models.save_model(model, tmp_path / "w.safetensors")
    again, report = models.load_model(tmp_path / "w.safetensors")
    assert (again.global_pool, report.missing, report.left_over) == (now, [], [])
    same_outputs(model, again)
    assert models.model_config(again) == models.model_config(model)


def test_an_unchanged_pooling_is_not_written(tmp_path):
    model = build("deit_pico_patch16")
    before = models.model_config(model)
    model.reset_classifier(7, "token")
    assert models.model_config(model) == before | {"num_classes": 7}


def test_a_changed_pooling_that_nobody_could_build_is_refused():
    model = build("eva02_tiny_patch14_224", depth=1)
    models.model_config(model)
    model.reset_classifier(5, "token")
    with pytest.raises(InputError, match="built with global_pool='avg' and has 'token' now"):
        models.model_config(model)


def test_a_conflicting_flip_is_an_error(tmp_path):
    models.save_model(build(flip="released"), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"flip='paper' contradicts .* flip='released'"):
        models.load_model(tmp_path / "w.safetensors", flip="paper")
    with pytest.raises(InputError, match="was trained with flip='released', the model has flip='paper'"):
        models.load_resized(build(flip="paper"), tmp_path / "w.safetensors")


def segmenter(tmp_path, name="adventurer_pico_patch16", patch_size=8, **spec):
    """A segmenter and a file of its weights."""
    options = {"depth": 1, **spec.pop("options", {})}
    spec = ModelSpec(name=name, patch_size=patch_size, input_size=(16, 24), options=options, **spec)
    whole: Any = build_network("segmentation", spec, 5, {"decoder": "linear"})
    path = tmp_path / f"{patch_size}.safetensors"
    write_state(path, whole.state_dict(), models.model_config(whole.encoder))
    return whole, path


def test_a_conflicting_flip_of_a_whole_model_is_an_error(tmp_path):
    _, path = segmenter(tmp_path, options={"flip": "released"})
    models.load_resized(segmenter(tmp_path, patch_size=4, options={"flip": "released"})[0], path)
    with pytest.raises(InputError, match="was trained with flip='released', the model has flip='paper'"):
        models.load_resized(segmenter(tmp_path, patch_size=4)[0], path)


@pytest.mark.parametrize("name", ["deit_pico_patch16", "adventurer_pico_patch16"])
def test_a_whole_model_moves_with_its_encoder(tmp_path, name):
    whole, path = segmenter(tmp_path, name)
    finer, _ = segmenter(tmp_path, name, patch_size=4)
    report = models.load_resized(finer, path)
    assert set(report.resized) == {"encoder.patch_embed.proj.weight", "encoder.pos_embed"}
    assert not report.missing + report.left_over + list(report.reinitialised)
    encoder, _ = models.load_model(path, patch_size=4)
    torch.testing.assert_close(finer.encoder.pos_embed, encoder.pos_embed)
    torch.testing.assert_close(finer.decoder.classifier.weight, whole.decoder.classifier.weight)
    fixed, _ = segmenter(tmp_path, name, patch_size=4, positions="sincos")
    before = fixed.encoder.pos_embed.clone()
    assert "encoder.pos_embed" in models.load_resized(fixed, path).reinitialised
    assert torch.equal(fixed.encoder.pos_embed, before)


@pytest.mark.parametrize("name", ["deit_pico_patch16", "adventurer_pico_patch16", "vit_tiny_patch16_224"])
def test_moving_to_a_smaller_patch_and_another_size(tmp_path, name):
    model = build(name, depth=2)
    models.save_model(model, tmp_path / "w.safetensors")
    moved = build(name, depth=2, input_size=(24, 16), patch_size=2, num_classes=7)
    fresh_head = moved.head.weight.clone()
    report = models.load_resized(moved, tmp_path / "w.safetensors")
    assert set(report.resized) == {"patch_embed.proj.weight", "pos_embed"}
    assert set(report.reinitialised) == {"head.weight", "head.bias"}
    assert not report.missing
    assert not report.left_over
    assert torch.equal(moved.head.weight, fresh_head)
    row = -1 if name.startswith("adventurer") else 0
    assert torch.equal(moved.pos_embed[:, row], model.pos_embed[:, row])
    assert any("resized        pos_embed" in line for line in report.lines())
    direct, _ = models.load_model(tmp_path / "w.safetensors", input_size=(24, 16), patch_size=2)
    torch.testing.assert_close(direct.pos_embed, moved.pos_embed)


def test_a_larger_patch_on_larger_images_sees_the_same():
    model = build(input_size=(16, 16), patch_size=2)
    larger = build(input_size=(32, 32), patch_size=4)
    tensors, _ = models.resize_state_dict(model.state_dict(), larger)
    larger.load_state_dict(tensors)
    images = torch.randn(1, 3, 8, 8).repeat_interleave(2, 2).repeat_interleave(2, 3)  # constant in each 2x2 patch
    grown = images.repeat_interleave(2, 2).repeat_interleave(2, 3)
    with torch.no_grad():
        torch.testing.assert_close(larger(grown), model(images), atol=1e-4, rtol=1e-3)


def test_unfit_checkpoints_are_named(tmp_path):
    with pytest.raises(InputError, match="no weights at"):
        models.load_model(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not tensors")
    with pytest.raises(InputError, match="not a readable safetensors file"):
        models.load_model(tmp_path / "bad.safetensors")
    models.save_model(build("deit_pico_patch16"), tmp_path / "deit.safetensors")
    report = models.load_resized(build(), tmp_path / "deit.safetensors")
    assert any(key.startswith("blocks.0") for key in report.left_over)
    assert any(key.startswith("layers.0") for key in report.missing)
    with pytest.raises(InputError, match="patchscale convert"):
        models.load_resized(build(), _write(tmp_path / "w.pth", {}))


def _write(path, content):
    torch.save(content, path)
    return path


def published(model, **more):
    """A checkpoint laid out as the published ones."""
    return {
        "model": model.state_dict(),
        "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]},
        "epoch": 3,
        "scaler": {},
        "args": argparse.Namespace(lr=0.1, data_path="x"),
        **more,
    }


def test_convert_a_published_adventurer(tmp_path):
    model = build(input_size=(32, 32), flip="released", embed_dim=96, depth=5)
    ema = {key: value + 1 for key, value in model.state_dict().items()}
    source = _write(tmp_path / "adventurer.pth", published(model, model_ema=ema))
    done = models.convert(source, tmp_path / "w.safetensors")
    assert done.config["flip"] == "released"
    assert done.config["depth"] == 5
    again, _ = models.load_model(tmp_path / "w.safetensors")
    same_outputs(model, again, (32, 32))
    with pytest.raises(InputError, match="contradicts"):
        models.load_model(tmp_path / "w.safetensors", flip="paper")
    models.convert(source, tmp_path / "ema.safetensors", ema=True)
    state, _ = models.read_checkpoint(tmp_path / "ema.safetensors")
    assert torch.equal(state["head.bias"], ema["head.bias"])


def test_convert_deit_and_mae(tmp_path):
    deit = build("deit_tiny_patch16", input_size=(32, 32), depth=2)
    source = _write(tmp_path / "deit.pth", {"model": {f"module.{k}": v for k, v in deit.state_dict().items()}})
    done = models.convert(source, tmp_path / "w.safetensors")
    assert done.config["model"] == "deit_tiny_patch16"
    same_outputs(deit, models.load_model(tmp_path / "w.safetensors")[0], (32, 32))

    mae = {k: v for k, v in deit.state_dict().items() if not k.startswith("head")}
    mae |= {"mask_token": torch.zeros(1, 1, 64), "decoder_pos_embed": torch.zeros(1, 65, 64)}
    done = models.convert(_write(tmp_path / "mae.pth", {**published(deit), "model": mae}), tmp_path / "mae.safetensors")
    assert done.report.left_over == ["mask_token", "decoder_pos_embed"]
    assert done.config["num_classes"] == 0


@pytest.mark.parametrize(
    ("options", "lost"),
    [
        ({"init_values": 0.1}, r"no blocks\.0\.ls1\.gamma"),
        ({"qk_norm": True}, r"no blocks\.0\.attn\.q_norm\.weight"),
        ({"reg_tokens": 3}, "reg_token, a row that no model here has"),
    ],
)
def test_convert_leaves_nothing_behind_that_outputs_need(tmp_path, options, lost):
    model = timm.create_model("deit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, **options)
    with pytest.raises(InputError, match=lost):
        models.convert(_write(tmp_path / "a.pth", model.state_dict()), tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()


@pytest.mark.parametrize("key", ["norm_pre.weight", "fc_norm.weight", "pre_logits.fc.weight", "patch_embed.norm.bias"])
def test_convert_refuses_layers_without_a_place(tmp_path, key):
    state = build("deit_tiny_patch16", input_size=(16, 16), depth=1).state_dict() | {key: torch.ones(192)}
    with pytest.raises(InputError, match=f"does not fit deit_tiny_patch16, which has no {key}"):
        models.convert(_write(tmp_path / "a.pth", state), tmp_path / "w.safetensors")


def test_convert_refuses_a_distilled_deit(tmp_path):
    model = timm.create_model("deit_tiny_distilled_patch16_224", img_size=32, patch_size=8, depth=2)
    with pytest.raises(InputError, match="dist_token, a row that no model here has"):
        models.convert(_write(tmp_path / "a.pth", model.state_dict()), tmp_path / "w.safetensors")


def test_convert_needs_what_shapes_cannot_tell(tmp_path):
    source = _write(tmp_path / "a.pth", {"model": build().state_dict()})
    with pytest.raises(InputError, match="24 position rows are not a square grid"):
        models.convert(source, tmp_path / "w.safetensors")
    models.convert(source, tmp_path / "w.safetensors", input_size=(16, 24))
    with pytest.raises(InputError, match="has no model_ema"):
        models.convert(source, tmp_path / "e.safetensors", ema=True)
    with pytest.raises(InputError, match="neither an Adventurer nor a ViT"):
        models.convert(_write(tmp_path / "b.pth", {"conv.weight": torch.ones(1)}), tmp_path / "w2.safetensors")
    with pytest.raises(InputError, match=r"must end with \.safetensors"):
        models.convert(source, tmp_path / "w.bin")


def test_convert_takes_safetensors_that_do_not_say_what_they_are(tmp_path):
    model = build("deit_pico_patch16", depth=2, input_size=(16, 16))
    save_file(model.state_dict(), tmp_path / "plain.safetensors")
    models.convert(tmp_path / "plain.safetensors", tmp_path / "w.safetensors")
    same_outputs(model, models.load_model(tmp_path / "w.safetensors")[0], (16, 16))
    with pytest.raises(InputError, match="holds one set of weights"):
        models.convert(tmp_path / "plain.safetensors", tmp_path / "e.safetensors", ema=True)
    models.save_model(build(input_size=(16, 16), flip="paper"), tmp_path / "ours.safetensors")
    with pytest.raises(InputError, match=r"carries its configuration \(adventurer_pico_patch16\) already"):
        models.convert(tmp_path / "ours.safetensors", tmp_path / "released.safetensors")
    assert not list(tmp_path.glob("[er]*"))


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("deit_pico_patch16", "patch_embed.proj.weight"),
        ("deit_pico_patch16", "pos_embed"),
        ("deit_pico_patch16", "blocks.0.mlp.fc1.weight"),
        ("adventurer_pico_patch16", "patch_embed.proj.weight"),
        ("adventurer_pico_patch16", "layers.0.mixer.out_proj.weight"),
        ("adventurer_pico_patch16", "layers.0.mixer.A_log"),
        ("adventurer_pico_patch16", "layers.0.mixer.conv1d.weight"),
        ("adventurer_pico_patch16", "layers.0.mlp.w1.weight"),
    ],
)
def test_convert_names_what_it_reads_sizes_off(tmp_path, name, missing):
    state = build(name, depth=1, input_size=(16, 16)).state_dict()
    odd = state | {missing: state.pop(missing)[..., None, None, None]}
    with pytest.raises(InputError, match=f"the checkpoint has no {missing}"):
        models.convert(_write(tmp_path / "a.pth", state), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=rf"{missing} of the checkpoint has shape \[.*1, 1, 1\], expected \d axes"):
        models.convert(_write(tmp_path / "b.pth", odd), tmp_path / "w.safetensors")


@settings(deadline=None, max_examples=50)
@given(content=st.binary(min_size=1, max_size=40))
@example(content=b"hi")  # KeyError
@example(content=b"s")  # IndexError
@example(content=b"J")  # struct.error
def test_bytes_that_are_no_checkpoint_are_refused(tmp_path_factory, content):
    source = tmp_path_factory.mktemp("bytes") / "a.pth"
    source.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of pickle protocols that the bytes seem to name
        with pytest.raises(InputError, match=r"is refused|not a readable checkpoint|holds a"):
            models.convert(source, source.with_suffix(".safetensors"))


class Evil:
    def __reduce__(self):
        return os.system, ("touch executed",)


def test_a_file_that_would_execute_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = _write(tmp_path / "evil.pth", {"model": {"a": torch.ones(1)}, "args": Evil()})
    with pytest.raises(InputError, match=r"would execute code .*refused"):
        models.convert(source, tmp_path / "w.safetensors")
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "w.safetensors").exists()
    (tmp_path / "cut.pth").write_bytes(source.read_bytes()[:100])
    with pytest.raises(InputError, match="not a readable checkpoint"):
        models.convert(tmp_path / "cut.pth", tmp_path / "w.safetensors")


def test_hub_folder(tmp_path):
    model = build(flip="released")
    models.HubModel(model).save_pretrained(tmp_path / "repo")
    assert {"model.safetensors", "config.json", "README.md"} <= {p.name for p in (tmp_path / "repo").iterdir()}
    again = models.HubModel.from_pretrained(tmp_path / "repo")
    same_outputs(model, again.model)
    moved = models.HubModel.from_pretrained(tmp_path / "repo", input_size=(16, 16), patch_size=2)
    assert moved.model.patch_embed.grid_size == (8, 8)


@pytest.mark.parametrize("name", ["deit_pico_patch16", "adventurer_pico_patch16"])
def test_export_program_equals_the_model(name):
    model = build(name, depth=3, input_size=(16, 16), patch_size=2)
    program = models.export_program(model)
    images = torch.randn(1, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images), model(images), atol=1e-4, rtol=1e-3)


def test_export_to_onnx_agrees_under_onnxruntime(tmp_path):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    assert models.export_onnx(build(depth=3), tmp_path / "m.onnx") < 1e-3
    assert (tmp_path / "m.onnx").stat().st_size > 1000


LARGER = {
    "segmentation": {"decoder": "linear"},
    "masked": {"decoder_depth": 1, "decoder_dim": 32, "decoder_heads": 2},
    "captioning": {},
}


@pytest.mark.parametrize("task", LARGER)
def test_a_larger_model_gives_its_encoder_and_every_other_key_a_line(tmp_path, task):
    spec = ModelSpec(name="deit_pico_patch16", patch_size=8, input_size=(16, 16), options={"depth": 1})
    whole = build_network(task, spec, 5, LARGER[task])
    path = tmp_path / "w.safetensors"
    write_state(path, whole.state_dict(), models.model_config(whole.encoder))
    encoder, report = models.load_model(path)
    assert torch.equal(encoder.blocks[0].mlp.fc1.weight, whole.encoder.blocks[0].mlp.fc1.weight)
    assert not report.missing
    assert set(report.left_over) == {key for key in whole.state_dict() if not key.startswith("encoder.")}
    with pytest.raises(InputError, match=f"more than an encoder with its head: {report.left_over[0]}"):
        export_command(path, tmp_path / "m.onnx")


def test_weights_that_are_not_whole_are_not_exported(tmp_path):
    model = build("deit_pico_patch16", depth=1)
    state = {key: value for key, value in model.state_dict().items() if key != "norm.bias"}
    write_state(tmp_path / "w.safetensors", state, models.model_config(model))
    with pytest.raises(InputError, match=r"not whole, without: norm\.bias"):
        export_command(tmp_path / "w.safetensors", tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


def test_export_names_the_packages_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "NEEDED", ("a_package_nobody_has",))
    with pytest.raises(InputError, match=r"export needs a_package_nobody_has; .*pip install patchscale\[onnx\]"):
        models.export_onnx(build(depth=1), tmp_path / "m.onnx")
