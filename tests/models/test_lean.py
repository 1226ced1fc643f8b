"""The lean block against the plain formula: values, every gradient, tiles of any size, stochastic depth, in place."""

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.modules.module import register_module_forward_hook

import patchscale.models  # noqa: F401  (registers the names with timm)
from patchscale.mixers import lean
from patchscale.mixers.backends import status

BACKENDS = [name for name in ("torch", "native") if status(name, torch.device("cpu")).available]


def build(**options):
    arguments = {"img_size": (4, 6), "patch_size": 1, "embed_dim": 32, "depth": 4, "num_classes": 3, "headdim": 16,
                 "d_state": 8, **options}  # fmt: skip
    return timm.create_model("adventurer_pico_patch16", **arguments).double()


def outcome(model, images, is_lean):
    for layer in model.layers:
        layer.lean = is_lean
    model.zero_grad()
    torch.manual_seed(5)  # stochastic depth draws the same factors in both forms
    x = images.clone().requires_grad_()
    y = model(x)
    (y * torch.linspace(-1, 1, y.shape[-1], dtype=y.dtype)).sum().backward()
    return {"logits": y.detach(), "input": x.grad, **{k: p.grad.clone() for k, p in model.named_parameters()}}


def assert_equal(model, images, tolerance=1e-9):
    want, got = outcome(model, images, False), outcome(model, images, True)
    for key in want:
        error = (got[key] - want[key]).abs().max() / want[key].abs().max().clamp(min=1e-6)
        assert error < tolerance, (key, error.item())


@settings(deadline=None, max_examples=20)
@given(
    rows=st.integers(1, 5),
    cols=st.integers(1, 7),
    batch=st.integers(1, 5),
    chunk=st.sampled_from([None, 1, 4, 7, 16]),
    floats=st.sampled_from([1, 4000, 1 << 30]),
    taps=st.sampled_from([1, 2, 4]),
    flip=st.sampled_from(["paper", "released"]),
    backend=st.sampled_from(BACKENDS),
)
def test_lean_equals_plain(rows, cols, batch, chunk, floats, taps, flip, backend):
    before = lean.TILE_FLOATS_CPU, lean.TILE_ROWS_CPU
    lean.TILE_FLOATS_CPU, lean.TILE_ROWS_CPU = floats, (1, 1 << 30)
    try:
        model = build(img_size=(rows, cols), chunk_size=chunk, d_conv=taps, flip=flip, backend=backend)
        assert_equal(model, torch.randn(batch, 3, rows, cols, dtype=torch.float64))
    finally:
        lean.TILE_FLOATS_CPU, lean.TILE_ROWS_CPU = before


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("floats", [1, 1 << 30])
def test_lean_equals_plain_with_stochastic_depth(monkeypatch, floats, backend):
    monkeypatch.setattr(lean, "TILE_FLOATS_CPU", floats)
    monkeypatch.setattr(lean, "TILE_ROWS_CPU", (1, 1 << 30))
    assert_equal(build(drop_path_rate=0.6, chunk_size=8, backend=backend), torch.randn(5, 3, 4, 6, dtype=torch.float64))


@pytest.mark.parametrize("where", ["after", "before", "everywhere", "embedded"])
def test_what_hooks_keep_is_not_overwritten(where):
    """A hook that keeps what it sees, as feature extraction does, has every layer's own rows."""
    kept, clones = [], []

    def keep(module, args, output=None):
        if module in seen:
            rows = args[0] if output is None else output
            kept.append(rows)
            clones.append(rows.clone())

    model, images = build().eval(), torch.randn(2, 3, 4, 6, dtype=torch.float64)
    plain = build(dynamic_img_size=True).eval()
    plain.load_state_dict(model.state_dict())
    model, seen = (plain, {plain.pos_drop}) if where == "embedded" else (model, set(model.layers))
    want = model(images).detach()
    if where == "everywhere":
        handles = [register_module_forward_hook(keep)]
    elif where == "before":
        handles = [layer.register_forward_pre_hook(keep) for layer in seen]
    else:
        handles = [layer.register_forward_hook(keep) for layer in seen]
    with torch.no_grad():
        torch.testing.assert_close(model(images), want)
    for handle in handles:
        handle.remove()
    assert len(kept) == len(seen)
    assert all(torch.equal(rows, clone) for rows, clone in zip(kept, clones, strict=True))


@pytest.mark.parametrize("floats", [1, 1 << 30])
def test_inference_runs_in_place_and_equals_training_mode(monkeypatch, floats):
    monkeypatch.setattr(lean, "TILE_FLOATS_CPU", floats)
    monkeypatch.setattr(lean, "TILE_ROWS_CPU", (1, 1 << 30))
    model, images = build(chunk_size=8).eval(), torch.randn(3, 3, 4, 6, dtype=torch.float64)
    want, seen = model(images).detach(), []
    with torch.no_grad():
        torch.testing.assert_close(model(images, progress=lambda i, n: seen.append((i, n))), want)
        torch.testing.assert_close(model.forward_head(model.forward_features(images)), want)
        stream = model.embed(images)
        address = stream.data_ptr()
        assert model.layers[2](stream, inplace=True).data_ptr() == address
        kept = model.embed(images)
        copy = kept.clone()
        model.layers[2](kept)
        assert torch.equal(kept, copy)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_lean_equals_plain_in_float32_at_odd_widths(backend):
    """Channels that do not fill a processor's vectors, and more than one image in a tile."""
    options = {"embed_dim": 20, "headdim": 10, "d_state": 7, "mlp_ratio": 1.7, "chunk_size": 9}
    assert_equal(build(**options, backend=backend).float(), torch.randn(3, 3, 4, 6), 2e-3)


def test_training_keeps_little_memory():
    model = build(img_size=(32, 32)).float()
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        loss = model(torch.randn(1, 3, 32, 32)).sum()
    parameters = {p.data_ptr() for p in model.parameters()}
    kept = {t.data_ptr(): t.numel() for t in saved if t.data_ptr() not in parameters}
    stream = 1025 * 32
    assert sum(kept.values()) < (2 * 4 + 6) * stream  # two rows of the stream per block, one state per tile, the ends
    loss.backward()


def test_bfloat16_weights_stay_close_to_float32():
    model, images = build().float(), torch.randn(2, 3, 4, 6)
    want = outcome(model, images, True)
    got = outcome(model.bfloat16(), images.bfloat16(), True)
    for key, value in want.items():
        assert got[key].dtype == torch.bfloat16
        if not key.endswith(("A_log", "dt_bias")):  # sums whose terms nearly cancel
            assert (got[key].float() - value).norm() / value.norm() < 0.08, key
