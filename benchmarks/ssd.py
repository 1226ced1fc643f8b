"""SSD and whole mixer against named peers, in one run: outputs verified first, then ratios.

    OMP_NUM_THREADS=2 python benchmarks/ssd.py [--length 4096] [--repeats 5] [--long] [--json]

Tiny's mixer (8 heads, P = N = 64, width 256), batch 1, forward and backward, float32. Times are the minimum of
interleaved repeats. Peers: the plain chunked form under autograd at several chunks; transformers' Mamba2Mixer where
that package is installed. `--long` adds time per token and peak memory at 784 to 50,178 tokens (a fresh process each).
Ceilings are measured here: a 1024^3 matrix product and a copy of 256 MB.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import resource
import subprocess
import sys
import time
from functools import lru_cache

import torch
import torch.nn.functional as F

from patchscale.mixers import Mamba2, resolve_backend
from patchscale.mixers.chunked import ChunkedSSD, pick_chunk
from patchscale.mixers.lean import LeanMixer, MixerSpec
from patchscale.mixers.plain import ssd_plain
from patchscale.mixers.reference import ssd_reference

HEADS, WIDTH, STATE, DIM = 8, 64, 64, 256
LENGTHS = (784, 3_136, 12_544, 50_178)


def best_of(runs: dict, repeats: int) -> dict[str, float]:
    """Seconds of each run, the minimum of interleaved repeats after one warm-up each."""
    best = {}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat:
                best[name] = min(best.get(name, float("inf")), time.perf_counter() - start)
    return best


def ceilings() -> dict[str, float]:
    """Matrix-product FLOP/s and copy bytes/s of this process."""
    a = torch.randn(1024, 1024)
    big = torch.randn(1 << 26)
    out = torch.empty_like(big)
    best = best_of({"product": lambda: a @ a, "copy": lambda: out.copy_(big)}, 5)
    return {"flops": 2 * 1024**3 / best["product"], "bytes": 8 * big.numel() / best["copy"]}


def ssd_inputs(length: int) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1, length, HEADS, WIDTH, generator=g)
    dt = F.softplus(torch.randn(1, length, HEADS, generator=g) - 4)
    a = -(1 + 15 * torch.rand(HEADS, generator=g))
    b, c = (torch.randn(1, length, STATE, generator=g) for _ in range(2))
    return [t.requires_grad_() for t in (x, dt, a, b, c, torch.ones(HEADS))]


def backward(y: torch.Tensor, values) -> list[torch.Tensor]:
    """Gradients for a fixed output gradient: no loss is timed."""
    return list(torch.autograd.grad(y, values, grad_outputs=_output_gradient(y.shape)))


@lru_cache
def _output_gradient(shape: torch.Size) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def verify(name: str, got, want, tolerance: float) -> None:
    """Refuses to go on when a form does not compute the same."""
    for a, b in zip(got, want, strict=True):
        error = ((a - b).abs().max() / b.abs().max()).item()
        if not error < tolerance:
            raise SystemExit(f"{name} differs from the oracle by {error:.1e}; nothing is timed")


def ssd_table(length: int, repeats: int, ceiling: dict[str, float]) -> dict:
    values = ssd_inputs(min(length, 300))
    want = backward(ssd_reference(*values, None)[0], values)
    verify("chunked", backward(ChunkedSSD.apply(*values, None, 64, False)[0], values), want, 1e-3)
    verify("plain", backward(ssd_plain(*values, None, 64)[0], values), want, 1e-3)
    values = ssd_inputs(length)
    runs = {f"plain chunk {q}": lambda q=q: backward(ssd_plain(*values, None, q)[0], values) for q in (32, 64, 128)} | {
        f"ours chunk {q}": lambda q=q: backward(ChunkedSSD.apply(*values, None, q, False)[0], values)
        for q in (32, 64, 128)
    }
    best = best_of(runs, repeats)
    ours = min(v for k, v in best.items() if k.startswith("ours"))
    chunk = next(int(k.split()[-1]) for k, v in best.items() if v == ours)
    inner = HEADS * WIDTH
    # forward Q + 2N, backward 3Q + 6N multiply-adds per channel and row, and the shared [Q, Q] products
    flops = 2 * length * (inner * (4 * chunk + 8 * STATE) + 4 * chunk * STATE)
    return {
        "milliseconds": {k: round(v * 1e3, 2) for k, v in best.items()},
        "plain_over_ours": min(v for k, v in best.items() if k.startswith("plain")) / ours,
        "share_of_product_rate": flops / ours / ceiling["flops"],
    }


def lean_call(mixer: Mamba2, x: torch.Tensor) -> torch.Tensor:
    """Our whole mixer as blocks run it, its norm and residual included."""
    spec = MixerSpec(False, mixer.headdim, 1e-5, None, torch.float32, resolve_backend("auto", x.device))
    return LeanMixer.apply(
        x, None, torch.ones(DIM), mixer.in_proj.weight, mixer.conv1d.weight, mixer.conv1d.bias, mixer.dt_bias,
        mixer.A_log, mixer.D, mixer.norm.weight, mixer.out_proj.weight, spec,
    )  # fmt: skip


def transformers_mixer(mixer: Mamba2, chunk: int):
    """transformers' mixer holding the same weights."""
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    config = Mamba2Config(hidden_size=DIM, num_heads=HEADS, head_dim=WIDTH, state_size=STATE, n_groups=1, expand=2,
                          conv_kernel=4, chunk_size=chunk, use_bias=False, use_conv_bias=True,
                          time_step_limit=(0.0, float("inf")))  # fmt: skip
    other = Mamba2Mixer(config, layer_idx=0)
    other.load_state_dict(mixer.state_dict())
    return other


def mixer_table(length: int, repeats: int) -> dict:
    torch.manual_seed(0)
    mixer = Mamba2(DIM)
    x = torch.randn(1, length, DIM).requires_grad_()

    dy = _output_gradient(x.shape)
    runs = {
        "ours (lean half block)": lambda: lean_call(mixer, x).backward(dy),
        "ours (module)": lambda: mixer(x).backward(dy),
    }
    if importlib.util.find_spec("transformers"):
        small = torch.randn(1, 130, DIM)
        for chunk in (256, 64):
            other = transformers_mixer(mixer, chunk)
            verify("transformers", [other(small)], [mixer(small)], 1e-3)
            runs[f"transformers chunk {chunk}"] = lambda other=other: other(x).backward(dy)
    best = best_of(runs, repeats)
    ours = best["ours (lean half block)"]
    return {
        "milliseconds": {k: round(v * 1e3, 1) for k, v in best.items()},
        "over_ours": {k: round(v / ours, 2) for k, v in best.items()},
    }


def measure_length(length: int) -> dict:
    """Time per row and peak resident memory of the lean mixer in this process."""
    mixer = Mamba2(DIM)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    x = torch.randn(1, length, DIM).requires_grad_()
    best = best_of({"run": lambda: lean_call(mixer, x).backward(_output_gradient(x.shape))}, 3)["run"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows": length, "microseconds_per_row": best / length * 1e6, "mib_beyond_import": peak - base}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=4_096)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--long", action="store_true", help="also 784 to 50,178 rows")
    parser.add_argument("--rows", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.rows:
        print(json.dumps(measure_length(options.rows)))
        return
    ceiling = ceilings()
    table: dict = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "default_chunk": pick_chunk(options.length, torch.device("cpu")),
        "ceiling_gflops": ceiling["flops"] / 1e9,
        "ceiling_gbytes": ceiling["bytes"] / 1e9,
        "ssd": ssd_table(options.length, options.repeats, ceiling),
        "mixer": mixer_table(options.length, options.repeats),
    }
    if options.long:
        command = [sys.executable, __file__, "--rows"]
        table["long"] = [
            json.loads(subprocess.run([*command, str(n)], check=True, capture_output=True, text=True).stdout)
            for n in LENGTHS
        ]
        rate = [row["microseconds_per_row"] for row in table["long"]]
        table["time_per_row_50178_over_784"] = rate[-1] / rate[0]
    print(json.dumps(table, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
