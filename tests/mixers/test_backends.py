"""The choice of backend, the guard of external kernels, and our Triton kernels under the interpreter."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from patchscale.errors import InputError
from patchscale.mixers import BACKENDS, backend_report, native_build, resolve_backend
from patchscale.mixers.external import images_per_call, in_pieces, largest_offset
from tests.needs import absent

CPU = torch.device("cpu")


@pytest.fixture
def fresh_build(monkeypatch, tmp_path):
    """Nothing compiled yet: an empty cache folder, no library loaded."""
    monkeypatch.setenv("PATCHSCALE_CACHE", str(tmp_path))
    native_build._attempt.cache_clear()
    yield tmp_path
    native_build._attempt.cache_clear()


def test_auto_and_named_backends_must_run(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    assert resolve_backend("auto", CPU) == ("native" if native_build.compiler() else "torch")
    assert resolve_backend("auto", torch.device("mps")) == "torch"
    assert resolve_backend("torch", CPU) == "torch"
    assert resolve_backend("reference", CPU) == "reference"
    for name in ("triton", "mamba_ssm", "fla"):
        with pytest.raises(InputError, match=f"SSD backend '{name}' cannot run: .*; (pip install|run on a GPU)"):
            resolve_backend(name, CPU)
    with pytest.raises(InputError, match="unknown SSD backend"):
        resolve_backend("cuda_magic", CPU)


@pytest.mark.parametrize(
    ("compiler", "why"),
    [("/nowhere/c++", "No such file"), ("false", "false failed"), (None, "no C.. compiler was found")],
)
def test_without_a_working_compiler_torch_runs_and_native_says_why(monkeypatch, fresh_build, compiler, why):
    if compiler is None:
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", str(fresh_build))
    else:
        monkeypatch.setenv("CXX", compiler)
    assert resolve_backend("auto", CPU) == "torch"
    with pytest.raises(InputError, match=f"SSD backend 'native' cannot run: .*{why}.*; install g"):
        resolve_backend("native", CPU)
    report = backend_report("cpu")
    assert report["auto"] == "torch"
    assert "compiler" in report["faster"]


def test_native_is_compiled_once_and_kept(fresh_build):
    if native_build.compiler() is None:
        absent("the native backend needs a C++ compiler: g++, clang++ or the one named by CXX")
    native_build.library()
    (built,) = (fresh_build / "native").iterdir()
    written = built.stat().st_mtime_ns
    native_build._attempt.cache_clear()
    native_build.library()
    assert [f.stat().st_mtime_ns for f in (fresh_build / "native").iterdir()] == [written]


def test_report_says_what_runs_and_why():
    report = backend_report("cpu")
    assert report["auto"] in ("native", "torch")
    assert [b["name"] for b in report["backends"]] == list(BACKENDS)
    assert all(b["reason"] and (b["available"] or b["hint"]) for b in report["backends"])


def test_a_model_with_a_missing_backend_is_an_error():
    import patchscale.models

    model = patchscale.models.create(
        "adventurer_pico_patch16", input_size=(8, 8), patch_size=4, num_classes=2, backend="mamba_ssm"
    )
    with pytest.raises(InputError, match="SSD backend 'mamba_ssm' cannot run"):
        model(torch.randn(1, 3, 8, 8))


def test_offsets_beyond_32_bits_are_split_or_refused():
    wide = torch.empty(16, 50_178, 3_224, device="meta")
    part = wide[..., 1_536:3_072].unflatten(-1, (24, 64))
    assert largest_offset(part) > 2**31
    assert images_per_call([part], 24) == 13  # the facts sheet: batch 14 and up overflows
    with pytest.raises(InputError, match="beyond the kernel's 32-bit limit"):
        images_per_call([torch.empty(1, 2**20, 4_096, device="meta")], 1)


def test_pieces_equal_the_whole():
    x, start = torch.randn(5, 4, 2, 3), torch.randn(5, 2, 3, 3)
    calls = []

    def run(x, initial):
        calls.append(len(x))
        return x * 2, initial + 1

    y, state = in_pieces(run, 2, {"x": x, "initial": start}, 50)
    assert calls == [2, 2, 1]
    torch.testing.assert_close(y, x * 2)
    torch.testing.assert_close(state, start + 1)


def test_triton_kernels_under_the_interpreter():
    """In a process of its own: triton decides at its first import whether to interpret."""
    pytest.importorskip("triton")
    cases = Path(__file__).with_name("interpreted_triton.py")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(cases)],
        env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
