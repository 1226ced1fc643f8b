"""Every SSD backend against the step-by-step oracle, in value and gradient."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from patchscale.errors import InputError
from patchscale.mixers import chunked, native, native_build, ssd, ssd_step
from tests.needs import absent

CHUNKED = ["torch", "native"] if native_build.compiler() else ["torch"]
"""With a compiler, a kernel that does not compile fails these tests; without one, there is none to test."""


def inputs(batch, length, heads, width, state, dtype=torch.float64, seed=0, speed=1.0, initial=True):
    """Random SSD inputs; `speed` scales dt and so how fast the state decays."""
    g = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    f = torch.promote_types(dtype, torch.float32)
    out = {
        "x": randn(batch, length, heads, width),
        "dt": F.softplus(randn(batch, length, heads).to(f)) * speed,
        "A": -torch.rand(heads, generator=g, dtype=torch.float64).to(f) - 0.1,
        "B": randn(batch, length, state),
        "C": randn(batch, length, state),
        "D": randn(heads).to(f),
    }
    if initial:
        out["initial_state"] = randn(batch, heads, width, state).to(f)
    return {k: v.requires_grad_() for k, v in out.items()}


def run(values, final=True, **options):
    """Outputs and the gradients of a fixed random projection of them."""
    out = ssd(**values, return_final_state=final, **options)
    outs = out if final else (out,)
    g = torch.Generator().manual_seed(7)
    loss = sum((o.double() * torch.randn(o.shape, generator=g, dtype=torch.float64)).sum() for o in outs)
    return outs, torch.autograd.grad(loss, list(values.values()))


def assert_same(values, tolerance, final=True, **options):
    outs, grads = run(values, final, **options)
    exact = {k: v.detach().double().requires_grad_() for k, v in values.items()}
    want_outs, want_grads = run(exact, final, backend="reference")
    names = [*"ys"[: len(outs)], *values]
    spread = want_grads[list(values).index("dt")].norm().item()  # dA sums terms of this size that may cancel
    for name, got, want in zip(names, [*outs, *grads], [*want_outs, *want_grads], strict=True):
        scale = max(want.abs().max().item(), 1.0, spread if name == "A" else 0.0)
        assert (got.double() - want).abs().max().item() <= tolerance * scale


@settings(deadline=None, max_examples=40)
@given(
    batch=st.integers(1, 3),
    length=st.one_of(st.sampled_from([1, 2, 13, 15, 16, 17, 31, 33, 47]), st.integers(1, 40)),
    heads=st.integers(1, 3),
    width=st.integers(1, 5),
    state=st.integers(1, 5),
    chunk=st.sampled_from([1, 3, 8, 16, 64, None]),
    speed=st.sampled_from([0.01, 1.0, 50.0]),
    initial=st.booleans(),
    final=st.booleans(),
    seed=st.integers(0, 1000),
    backend=st.sampled_from(CHUNKED),
)
def test_chunked_equals_the_oracle_in_float64(
    batch, length, heads, width, state, chunk, speed, initial, final, seed, backend
):
    values = inputs(batch, length, heads, width, state, seed=seed, speed=speed, initial=initial)
    assert_same(values, 1e-8, final, backend=backend, chunk_size=chunk)


@pytest.mark.parametrize("slab_bytes", [1, 1 << 30])
@pytest.mark.parametrize("speed", [0.05, 3.0, 200.0])
def test_chunked_does_not_depend_on_the_slab(monkeypatch, slab_bytes, speed):
    monkeypatch.setattr(chunked, "CPU_SLAB_BYTES", slab_bytes)
    assert_same(inputs(2, 53, 3, 4, 5, speed=speed), 1e-8, backend="torch", chunk_size=8)


@pytest.mark.parametrize("backend", CHUNKED)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.bfloat16, 6e-2)])
@pytest.mark.parametrize("length", [1, 2, 29, 63, 64, 65, 200])
def test_chunked_in_lower_precision(dtype, tolerance, length, backend):
    assert_same(inputs(2, length, 2, 16, 16, dtype=dtype, speed=0.3), tolerance, backend=backend)


@pytest.mark.parametrize("backend", CHUNKED)
def test_a_long_sequence_with_fast_decay_stays_finite(backend):
    values = inputs(1, 700, 2, 4, 4, dtype=torch.float32, speed=100.0)
    outs, grads = run(values, backend=backend, chunk_size=256)
    assert all(t.isfinite().all() for t in [*outs, *grads])
    assert_same(values, 5e-3, backend=backend, chunk_size=256)  # dt near 100 magnifies rounding in dA


@pytest.mark.parametrize("segment_bytes", [1, 1 << 30])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_native_does_not_depend_on_threads_or_segments(monkeypatch, segment_bytes, threads):
    """Also at widths around those of a vector, with every row of a tile left over once."""
    if "native" not in CHUNKED:
        absent("the native backend needs a C++ compiler: g++, clang++ or the one named by CXX")
    monkeypatch.setattr(native, "SEGMENT_BYTES", segment_bytes)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for length, width, state, chunk in [(53, 4, 5, 8), (39, 17, 16, 13), (100, 33, 8, 32)]:
            values = inputs(2, length, 5, width, state)
            assert_same(values, 1e-8, backend="native", chunk_size=chunk)
            assert_same({k: v.detach().float().requires_grad_() for k, v in values.items()}, 2e-4, backend="native")
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("backend", ["reference", *CHUNKED])
@pytest.mark.parametrize("cut", [1, 9, 16, 30])
def test_splitting_and_passing_the_state_equals_the_whole(backend, cut):
    values = {k: v.detach() for k, v in inputs(2, 31, 2, 3, 4).items()}
    y, state = ssd(**values, return_final_state=True, backend=backend, chunk_size=8)
    head = {k: v[:, :cut] if k in ("x", "dt", "B", "C") else v for k, v in values.items()}
    tail = {k: v[:, cut:] if k in ("x", "dt", "B", "C") else v for k, v in values.items()}
    y1, middle = ssd(**head, return_final_state=True, backend=backend, chunk_size=8)
    tail["initial_state"] = middle
    y2, last = ssd(**tail, return_final_state=True, backend=backend, chunk_size=8)
    torch.testing.assert_close(torch.cat([y1, y2], 1), y)
    torch.testing.assert_close(last, state)


def test_steps_equal_the_whole():
    values = {k: v.detach() for k, v in inputs(2, 9, 2, 3, 4).items()}
    y, last = ssd(**values, return_final_state=True)
    state, rows = values["initial_state"], []
    for t in range(9):
        row, state = ssd_step(state, *(values[k][:, t] for k in ("x", "dt")), values["A"],
                              *(values[k][:, t] for k in ("B", "C")), values["D"])  # fmt: skip
        rows.append(row)
    torch.testing.assert_close(torch.stack(rows, 1), y)
    torch.testing.assert_close(state, last)


def test_batch_permutation_commutes():
    values = {k: v.detach() for k, v in inputs(4, 21, 2, 3, 4).items()}
    order = torch.tensor([2, 0, 3, 1])
    moved = {k: v[order] if k not in ("A", "D") else v for k, v in values.items()}
    torch.testing.assert_close(ssd(**moved), ssd(**values)[order])


@pytest.mark.parametrize("backend", CHUNKED)
def test_non_contiguous_views_are_read_correctly(backend):
    values = {k: v.detach() for k, v in inputs(2, 21, 2, 3, 4).items()}
    wide = torch.cat([values["B"], values["x"].flatten(2), values["C"]], -1)
    views = {**values, "B": wide[..., :4], "x": wide[..., 4:10].unflatten(-1, (2, 3)), "C": wide[..., 10:]}
    torch.testing.assert_close(ssd(**views, chunk_size=8, backend=backend), ssd(**values, backend="reference"))


def test_bad_input_is_named():
    values = inputs(1, 4, 2, 3, 4)
    with pytest.raises(InputError, match="unknown SSD backend 'cuda_magic'"):
        ssd(**values, backend="cuda_magic")
    with pytest.raises(InputError, match=r"dt has shape \(1, 4, 3\); expected \(1, 4, 2\)"):
        ssd(**{**values, "dt": torch.ones(1, 4, 3)})
    with pytest.raises(InputError, match="chunk_size 0"):
        ssd(**values, chunk_size=0)


@pytest.mark.parametrize("length", [1, 17, 32, 47, 48, 66, 67, 80, 196, 4097, 50_178])
def test_the_native_backend_picks_near_equal_chunks(length):
    """As many rows in the last chunk as in the others, but for what rounding leaves; about 32 in each."""
    chunk = native.native_chunk(length)
    chunks = -(-length // chunk)
    assert chunk * chunks - length < chunks
    assert chunk <= 48
    assert chunk >= min(length, 21)
