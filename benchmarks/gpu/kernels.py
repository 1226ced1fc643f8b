"""Item 1: our Triton kernels against the step-by-step reference in float64, odd shapes, values and every gradient.

    PYTHONPATH=src python benchmarks/gpu/kernels.py --out DIR
    PYTHONPATH=src TRITON_INTERPRET=1 python benchmarks/gpu/kernels.py --tiny --out DIR      (dry run)

Uninitialised memory is filled with NaN, so that a row nobody wrote shows. The last case reaches offsets beyond 2^31:
its last image is compared with the same image alone.
"""

from __future__ import annotations

import os

import torch
import torch.nn.functional as F
from harness import Log, about, device, options

from patchscale.mixers import ssd

# batch, length, heads, P, N, chunk, speed of decay, D, initial state
SHAPES = [
    (1, 1, 1, 1, 1, 16, 1.0, True, False), (2, 2, 2, 3, 5, 16, 1.0, False, True),
    (1, 33, 2, 24, 16, 32, 1.0, True, True),
    (2, 131, 3, 64, 64, 64, 0.3, True, True), (1, 197, 8, 64, 64, 64, 0.05, True, False),
    (3, 255, 5, 48, 20, 128, 0.3, False, True), (1, 257, 24, 64, 64, 128, 40.0, True, True),
    (2, 1021, 8, 64, 64, 64, 0.1, True, False), (1, 785, 4, 128, 128, 64, 0.1, True, True),
]  # fmt: skip
LIMITS = {torch.float32: 3e-4, torch.bfloat16: 4e-2}


def inputs(batch, length, heads, width, state, speed, skip, initial, dtype):
    g = torch.Generator().manual_seed(length)
    wide = torch.randn(batch, length, heads * width + 2 * state, generator=g).to(dtype)
    values = {
        "x": wide[..., : heads * width].unflatten(-1, (heads, width)),
        "dt": F.softplus(torch.randn(batch, length, heads, generator=g)) * speed,
        "A": -torch.rand(heads, generator=g) - 0.1,
        "B": wide[..., heads * width : -state],
        "C": wide[..., -state:],
        "D": torch.randn(heads, generator=g) if skip else None,
        "initial_state": torch.randn(batch, heads, width, state, generator=g) if initial else None,
    }
    return {k: v.to(device()) for k, v in values.items() if v is not None}


def outcome(values, **how):
    values = {k: v.detach().requires_grad_() for k, v in values.items()}
    y, last = ssd(**values, return_final_state=True, **how)
    g = torch.Generator().manual_seed(7)
    weights = [torch.randn(t.shape, generator=g).to(t) for t in (y, last)]
    grads = torch.autograd.grad([y, last], list(values.values()), weights)
    return dict(zip(["y", "last", *values], [y, last, *grads], strict=True))


def compare(shape, dtype) -> dict:
    *sizes, chunk, speed, skip, initial = shape
    values = inputs(*sizes, speed, skip, initial, dtype)
    got = outcome(values, backend="triton", chunk_size=chunk)
    want = outcome({k: v.double() for k, v in values.items()}, backend="reference")
    errors = {}
    for name, exact in want.items():
        # dA sums terms of the size of dt's gradients that may cancel
        scale = max(exact.abs().max().item(), 1.0, want["dt"].norm().item() if name == "A" else 0.0)
        errors[name] = ((got[name].double() - exact).abs().max() / scale).item()
    worst = max(errors, key=lambda name: float("inf") if errors[name] != errors[name] else errors[name])
    return {"worst": worst, "error": errors[worst], "limit": LIMITS[dtype], "passed": errors[worst] <= LIMITS[dtype]}


def beyond_32_bits(batch: int, length: int) -> dict:
    """Base at patch 1: in_proj's output has 3,224 channels; from batch 14 on, offsets pass 2^31."""
    wide = torch.randn(batch, length, 3_224, device=device(), dtype=torch.bfloat16)
    x, dt = wide[..., 1_536:3_072].unflatten(-1, (24, 64)), wide[..., -24:].float().sigmoid() * 0.1
    b, c = wide[..., 3_072:3_136], wide[..., 3_136:3_200]
    a = -torch.linspace(1, 16, 24, device=device())
    whole = ssd(x, dt, a, b, c, backend="triton")[-1]
    alone = ssd(x[-1:], dt[-1:], a, b[-1:], c[-1:], backend="triton")[0]
    return {"largest_offset": wide.numel(), "error": (whole - alone).abs().max().item(),
            "passed": torch.equal(whole, alone), "limit": 0.0}  # fmt: skip


def main() -> None:
    chosen = options(__doc__)
    if chosen.tiny:
        os.environ.setdefault("TRITON_INTERPRET", "1")
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.use_deterministic_algorithms(True, warn_only=True)
    log = Log(chosen, __file__)
    log.write("about", **about())
    shapes = SHAPES[:3] if chosen.tiny else SHAPES
    for dtype in LIMITS if not chosen.tiny else [torch.float32]:
        for shape in shapes:
            log.measure(f"{dtype} {shape}", lambda shape=shape, dtype=dtype: compare(shape, dtype))
    size = (2, 40) if chosen.tiny else (14, 50_178)
    log.measure(f"offsets {size}", lambda: beyond_32_bits(*size))
    log.table(["worst", "error", "limit", "passed"])


if __name__ == "__main__":
    main()
