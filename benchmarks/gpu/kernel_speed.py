"""Item 2: the SSD forward and forward+backward at five lengths, Tiny and Base, against every peer that can be loaded.

    PYTHONPATH=src python benchmarks/gpu/kernel_speed.py --out DIR
    PYTHONPATH=src python benchmarks/gpu/kernel_speed.py --tiny --out DIR      (dry run on a CPU)

bfloat16, interleaved repeats, minimum. Backends: triton (ours, chunks of 64 and 128), torch, and mamba_ssm and fla
where their packages are on the path. Outputs are compared before anything is timed. Shares are of this device's
measured product rate and copy rate; bytes count every input and output once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from harness import Log, about, best_seconds, ceilings, device, options, peak_bytes

from patchscale.mixers import ssd
from patchscale.mixers.backends import status

LENGTHS = (196, 784, 3_136, 12_544, 50_176)
HEADS = {"tiny": 8, "base": 24}
WIDTH = STATE = 64


def forms() -> dict[str, dict]:
    """Name to arguments of `ssd`."""
    named = {"triton 64": ("triton", 64), "triton 128": ("triton", 128), "torch": ("torch", None),
             "mamba_ssm": ("mamba_ssm", 256), "fla": ("fla", 64), "native": ("native", None)}  # fmt: skip
    return {
        name: {"backend": backend, "chunk_size": chunk}
        for name, (backend, chunk) in named.items()
        if status(backend, device()).available
    }


def inputs(batch: int, length: int, heads: int) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    wide = torch.randn(batch, length, heads * WIDTH + 2 * STATE, generator=g).to(device(), torch.bfloat16)
    dt = F.softplus(torch.randn(batch, length, heads, generator=g) - 4).to(device())
    a = -torch.linspace(1, 16, heads, device=device())
    values = [wide[..., : heads * WIDTH].unflatten(-1, (heads, WIDTH)), dt, a,
              wide[..., heads * WIDTH : -STATE], wide[..., -STATE:], torch.ones(heads, device=device())]  # fmt: skip
    return [t.detach().requires_grad_() for t in values]


def case(size: str, length: int, batch: int, repeats: int, ceiling: dict) -> dict:
    heads = HEADS[size]
    values, results, runs = inputs(batch, length, heads), {}, {}
    want = None
    for name, how in forms().items():
        try:
            y = ssd(*values, **how)
            dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
            found = [y, *torch.autograd.grad(y, values, dy)]
        except Exception as error:
            results[name] = {"failed": f"{type(error).__name__}: {error}"[:200]}
            continue
        want = want or found
        off = max(((a.float() - b.float()).norm() / b.float().norm()).item() for a, b in zip(found, want, strict=True))
        results[name] = {"relative_difference": off}
        if off < 0.05:
            runs[f"{name} forward"] = lambda how=how: ssd(*[t.detach() for t in values], **how)
            runs[f"{name} both"] = lambda how=how, dy=dy: torch.autograd.grad(ssd(*values, **how), values, dy)
    best = best_seconds(runs, repeats)
    rows, channels = batch * length, heads * WIDTH
    flops = 2 * rows * (channels * (1.5 * 64 + 7 * STATE) + 1.5 * 64 * STATE)
    moved = rows * (2 * (5 * channels + 8 * STATE) + 4 * 3 * heads)  # x, y, dy, dx and x again; B, C and theirs
    for name, facts in results.items():
        if f"{name} both" in best:
            seconds = best[f"{name} both"]
            facts |= {"forward_ms": best[f"{name} forward"] * 1e3, "both_ms": seconds * 1e3,
                      "flop_share": flops / seconds / ceiling["flops"],
                      "byte_share": moved / seconds / ceiling["bytes"],
                      "peak_bytes": peak_bytes(runs[f"{name} both"])}  # fmt: skip
    ours = min((f["both_ms"] for n, f in results.items() if n.startswith("triton") and "both_ms" in f), default=None)
    timed = {n: f["both_ms"] for n, f in results.items() if "both_ms" in f}
    summary = {f"{n}_ms": ms for n, ms in timed.items()}
    over = {f"{n}_over_triton": ms / ours for n, ms in timed.items() if ours and not n.startswith("triton")}
    return {"batch": batch, **summary, **over, "forms": results}


def main() -> None:
    chosen = options(__doc__)
    log, ceiling = Log(chosen, __file__), ceilings(chosen.tiny)
    log.write("about", **about(), **ceiling)
    lengths, rows, repeats = ((70, 130), 140, 1) if chosen.tiny else (LENGTHS, 200_704, 10)
    for length in lengths:
        for size in HEADS:
            batch = max(1, rows // length)
            log.measure(f"{size} {length}", lambda s=size, n=length, b=batch: case(s, n, b, repeats, ceiling))
    log.table(["batch", *(f"{name}_ms" for name in forms())])


if __name__ == "__main__":
    main()
