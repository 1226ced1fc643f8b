"""Our Triton kernels against the oracle; run by test_backends.py in a process with TRITON_INTERPRET=1."""

import os

import pytest
import torch
import torch.nn.functional as F

from patchscale.mixers import ssd

assert os.environ.get("TRITON_INTERPRET") == "1"


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the interpreter is numpy: exp of masked pairs overflows aloud
@pytest.mark.parametrize(
    ("batch", "length", "heads", "width", "state", "chunk", "speed", "skip", "initial"),
    [
        (1, 1, 1, 1, 1, 16, 1.0, True, False),
        (2, 2, 2, 3, 5, 16, 1.0, False, True),
        (2, 31, 3, 16, 20, 16, 0.1, True, True),
        (1, 33, 2, 24, 16, 32, 1.0, True, False),
        (2, 64, 1, 8, 16, 16, 40.0, True, True),
        (1, 37, 2, 64, 64, 64, 0.3, True, False),
    ],
)
def test_triton_kernels_equal_the_oracle(batch, length, heads, width, state, chunk, speed, skip, initial):
    g = torch.Generator().manual_seed(length)
    wide = torch.randn(batch, length, heads * width + 2 * state, generator=g)
    values = {
        "x": wide[..., : heads * width].unflatten(-1, (heads, width)),
        "dt": F.softplus(torch.randn(batch, length, heads, generator=g)) * speed,
        "A": -torch.rand(heads, generator=g) - 0.1,
        "B": wide[..., heads * width : -state],
        "C": wide[..., -state:],
        "D": torch.randn(heads, generator=g) if skip else None,
        "initial_state": torch.randn(batch, heads, width, state, generator=g) if initial else None,
    }
    wanted = {k: v.detach().requires_grad_() for k, v in values.items() if v is not None}
    exact = {k: v.detach().double().requires_grad_() for k, v in wanted.items()}
    y, last = ssd(**wanted, return_final_state=True, backend="triton", chunk_size=chunk)
    y_ref, last_ref = ssd(**exact, return_final_state=True, backend="reference")
    w, w_last = torch.randn(y.shape, generator=g), torch.randn(last.shape, generator=g)
    grads = torch.autograd.grad((y * w).sum() + (last * w_last).sum(), list(wanted.values()))
    refs = torch.autograd.grad((y_ref * w).sum() + (last_ref * w_last).sum(), list(exact.values()))
    names = ["y", "state", *wanted]
    for name, got, want in zip(names, [y, last, *grads], [y_ref, last_ref, *refs], strict=True):
        error = (got.double() - want).abs().max() / want.abs().max().clamp(min=1.0)
        assert error < 2e-4, (name, error.item())
