"""SSD and whole mixer against named peers: outputs verified first, then ratios of interleaved repeats.

    OMP_NUM_THREADS=2 python benchmarks/ssd.py [--length 4096] [--repeats 5] [--long] [--site DIR ...] [--json]

Tiny's mixer (8 heads, P = N = 64, width 256), batch 1, forward and backward, float32. Peers of the SSD: the chunked
form of "Transformers are SSMs", listing 1, in einsums over all chunks (also in bfloat16), and the same chunk after
chunk, both under autograd at several chunk lengths. Peers of the mixer: transformers' Mamba2Mixer (default
configuration, no CUDA kernels, same weights) in this environment and in each folder given by `--site` (made by
`pip install --target`): its form without kernels differs a lot between versions 4 and 5.

Times are minima, by the wall clock and in CPU seconds of all threads; the latter say more on a busy machine. Ceilings,
a 1024^3 product and a copy of 256 MB, are measured in the same process. `--long` adds time per row and peak memory at
784 to 50,178 rows, a fresh process each.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F

from patchscale.mixers import Mamba2, resolve_backend, ssd
from patchscale.mixers.chunked import pick_chunk
from patchscale.mixers.lean import LeanMixer, MixerSpec
from patchscale.mixers.native import native_chunk
from patchscale.mixers.plain import ssd_plain
from patchscale.mixers.reference import ssd_reference
from patchscale.training.machine import peak_memory_bytes

HEADS, WIDTH, STATE, DIM = 8, 64, 64, 256
LENGTHS = (784, 3_136, 12_544, 50_178)
CPU = torch.device("cpu")


def best_of(runs: dict[str, Callable], repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each run, the minimum of interleaved repeats after one warm-up each: {"wall": .., "cpu": ..}."""
    best = {name: {"wall": float("inf"), "cpu": float("inf")} for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            start = time.perf_counter(), time.process_time()
            run()
            spent = time.perf_counter() - start[0], time.process_time() - start[1]
            if repeat:
                for kind, seconds in zip(("wall", "cpu"), spent, strict=True):
                    best[name][kind] = min(best[name][kind], round(seconds * 1e3, 2))
    return best


def ratios(best: dict, name: str, others: list[str]) -> dict[str, float]:
    """How many times longer the quickest of `others` took than `name`, by both clocks."""
    return {k: round(min(best[other][k] for other in others) / best[name][k], 2) for k in ("wall", "cpu")}


def product() -> Callable:
    a = torch.randn(1024, 1024)
    return lambda: a @ a


def ceilings() -> dict[str, float]:
    """Copy rate of this process; the rate of products is taken beside each table."""
    big = torch.randn(1 << 26)
    out = torch.empty_like(big)
    return {"copy_gbytes": 8e-6 * big.numel() / best_of({"copy": lambda: out.copy_(big)}, 3)["copy"]["wall"]}


def share(best: dict, name: str, flops: float) -> dict[str, float]:
    """FLOP/s of a run over that of the 1024^3 product measured among the same repeats."""
    return {k: round(flops / best[name][k] / (2 * 1024**3 / best["product"][k]), 3) for k in ("wall", "cpu")}


def peak_mib() -> float:
    return peak_memory_bytes(CPU) / 2**20


def ssd_inputs(length: int, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    x = torch.randn(1, length, HEADS, WIDTH, generator=g)
    dt = F.softplus(torch.randn(1, length, HEADS, generator=g) - 4)
    a = -(1 + 15 * torch.rand(HEADS, generator=g))
    b, c = (torch.randn(1, length, STATE, generator=g) for _ in range(2))
    low = [t.to(dtype) for t in (x, b, c)]
    return [t.requires_grad_() for t in (low[0], dt, a, *low[1:], torch.ones(HEADS))]


def einsum_form(x, dt, A, B, C, D, chunk: int) -> torch.Tensor:
    """Listing 1, all chunks at once; the length must be a multiple of `chunk`."""
    x_dt = (x * dt[..., None].to(x.dtype)).unflatten(1, (-1, chunk))
    log = (dt * A).unflatten(1, (-1, chunk)).permute(0, 3, 1, 2)  # [B, H, chunks, Q]
    b, c, cum = B.unflatten(1, (-1, chunk)), C.unflatten(1, (-1, chunk)), log.cumsum(-1)
    lower = torch.ones(chunk, chunk, dtype=torch.bool).tril()
    decay = torch.exp((cum[..., :, None] - cum[..., None, :]).masked_fill(~lower, float("-inf"))).to(x.dtype)
    y = torch.einsum("bcln,bcsn,bhcls,bcshp->bclhp", c, b, decay, x_dt)
    states = torch.einsum("bcln,bhcl,bclhp->bchpn", b, torch.exp(cum[..., -1:] - cum).to(x.dtype), x_dt)
    state, before = torch.zeros_like(states[:, 0], dtype=torch.float32), []
    for added, total in zip(states.unbind(1), cum[..., -1].unbind(2), strict=True):
        before.append(state)
        state = state * torch.exp(total)[..., None, None] + added
    entering = torch.stack(before, 1).to(x.dtype)
    y = y + torch.einsum("bcln,bchpn,bhcl->bclhp", c, entering, torch.exp(cum).to(x.dtype))
    return y.flatten(1, 2) + x * D.to(x.dtype)[:, None]


def backward(y: torch.Tensor, values) -> list[torch.Tensor]:
    """Gradients for a fixed output gradient: no loss is timed."""
    return list(torch.autograd.grad(y, values, grad_outputs=_output_gradient(y.shape).to(y.dtype)))


@lru_cache
def _output_gradient(shape: torch.Size) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def verify(name: str, got, want, tolerance: float) -> None:
    """Refuses to go on when a form does not compute the same."""
    for a, b in zip(got, want, strict=True):
        error = ((a.float() - b).abs().max() / b.abs().max()).item()
        if not error < tolerance:
            raise SystemExit(f"{name} differs from the oracle by {error:.1e}; nothing is timed")


def ssd_table(length: int, repeats: int) -> dict:
    """Our SSD and the plain forms, forward and backward."""
    native = resolve_backend("auto", CPU) == "native"
    ours: dict[str, Callable] = {
        f"{b} backend": lambda v, b=b: ssd(*v, backend=b) for b in ["native"] * native + ["torch"]
    }
    plain: dict[str, Callable] = {}
    for q in (32, 64, 128):
        plain[f"einsums chunk {q}"] = lambda v, q=q: einsum_form(*v, q)
        plain[f"loop chunk {q}"] = lambda v, q=q: ssd_plain(*v, None, q)[0]
    forms, table = ours | plain, {}
    for dtype, tolerance in ((torch.float32, 1e-3), (torch.bfloat16, 5e-2)):
        small = [t.detach().float().requires_grad_() for t in ssd_inputs(256, dtype)]
        want = backward(ssd_reference(*small, None)[0], small)
        for name, form in forms.items():
            values = ssd_inputs(256, dtype)
            verify(name, backward(form(values), values), want, tolerance)
        values = ssd_inputs(length, dtype)
        runs = {name: lambda form=form, v=values: backward(form(v), v) for name, form in forms.items()}
        best = best_of(runs | {"product": product()}, repeats)
        # forward Q/2 + 2N, backward Q + 5N multiply-adds per channel and row (N of them for the states made again)
        chunk = native_chunk(length) if native else pick_chunk(length, CPU)
        flops = 2 * length * (HEADS * WIDTH * (1.5 * chunk + 7 * STATE) + 1.5 * chunk * STATE)
        table[str(dtype).removeprefix("torch.")] = {
            "milliseconds": best,
            "best_plain_over": {name: ratios(best, name, list(plain)) for name in ours},
            "share_of_product_rate": share(best, next(iter(ours)), flops),
        }
    return table


def lean_call(mixer: Mamba2, x: torch.Tensor) -> torch.Tensor:
    """Our whole mixer as blocks run it, its norm and residual included."""
    spec = MixerSpec(False, mixer.headdim, 1e-5, None, torch.float32, resolve_backend("auto", x.device))
    return LeanMixer.apply(
        x, None, torch.ones(DIM), mixer.in_proj.weight, mixer.conv1d.weight, mixer.conv1d.bias, mixer.dt_bias,
        mixer.A_log, mixer.D, mixer.norm.weight, mixer.out_proj.weight, spec,
    )  # fmt: skip


def transformers_mixer(mixer: Mamba2, chunk: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """transformers' mixer holding the same weights."""
    from transformers import Mamba2Config
    from transformers.models.mamba2.modeling_mamba2 import Mamba2Mixer

    config = Mamba2Config(hidden_size=DIM, num_heads=HEADS, head_dim=WIDTH, state_size=STATE, n_groups=1, expand=2,
                          conv_kernel=4, chunk_size=chunk, use_bias=False, use_conv_bias=True,
                          time_step_limit=(0.0, float("inf")))  # fmt: skip
    other = Mamba2Mixer(config, layer_idx=0)
    other.load_state_dict(mixer.state_dict())

    def run(x: torch.Tensor) -> torch.Tensor:
        y = other(x)
        return y[0] if isinstance(y, tuple) else y

    return run


def mixer_table(length: int, repeats: int) -> dict:
    """The whole mixer, forward and backward; transformers' where this process can import it."""
    torch.manual_seed(0)
    mixer = Mamba2(DIM)
    x = torch.randn(1, length, DIM).requires_grad_()
    dy = _output_gradient(x.shape)
    runs: dict[str, Callable] = {
        "ours (lean half block)": lambda: lean_call(mixer, x).backward(dy),
        "ours (module)": lambda: mixer(x).backward(dy),
    }
    version, peers = None, []
    if importlib.util.find_spec("transformers"):
        import transformers

        version, small = transformers.__version__, torch.randn(1, 300, DIM)
        for chunk in (256, 64):
            other = transformers_mixer(mixer, chunk)
            verify("transformers", [other(small)], [mixer(small)], 1e-3)
            runs[f"transformers {version} chunk {chunk}"] = lambda other=other: other(x).backward(dy)
        peers = list(runs)[2:]
    best = best_of(runs | {"product": product()}, repeats)
    ours, inner = "ours (lean half block)", HEADS * WIDTH
    projections = DIM * (2 * inner + 2 * STATE + HEADS) * 4 + DIM * inner * 3  # in_proj is made again once
    chunk = native_chunk(length)
    scan = inner * (2 * chunk + 9 * STATE) + 2 * chunk * STATE  # and so is the SSD's forward pass
    return {
        "transformers": version,
        "milliseconds": best,
        "over_ours": {peer: ratios(best, ours, [peer]) for peer in ["ours (module)", *peers]},
        "share_of_product_rate": share(best, ours, 2 * length * (projections + scan)),
    }


def measure_peak(length: int, chunk: int) -> dict:
    """Peak memory of one forward and backward pass: transformers at `chunk`, or ours for 0."""
    mixer, x = Mamba2(DIM), torch.randn(1, length, DIM).requires_grad_()
    run = transformers_mixer(mixer, chunk) if chunk else lambda x: lean_call(mixer, x)
    before = peak_mib()
    run(x).sum().backward()
    return {"mib_of_the_process": round(peak_mib()), "mib_beyond_start": round(peak_mib() - before)}


def measure_length(length: int) -> dict:
    """Time per row and peak resident memory of the lean mixer in this process."""
    mixer, base = Mamba2(DIM), peak_mib()
    x = torch.randn(1, length, DIM).requires_grad_()
    best = best_of({"run": lambda: lean_call(mixer, x).backward(_output_gradient(x.shape))}, 3)["run"]
    per_row = {f"{kind}_microseconds_per_row": round(value / length * 1e3, 3) for kind, value in best.items()}
    return {"rows": length, **per_row, "mib_beyond_import": round(peak_mib() - base, 1)}


def fresh(arguments: list[str], site: str | None = None) -> dict:
    """What this script prints in a process of its own, with `site` first on its path."""
    env = {**os.environ, **({"PYTHONPATH": site} if site else {})}
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=4_096)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peer-repeats", type=int, default=1, help="repeats of the whole-mixer tables with a peer")
    parser.add_argument("--long", action="store_true", help="also 784 to 50,178 rows")
    parser.add_argument("--site", action="append", default=[], help="folder with another transformers; repeatable")
    parser.add_argument("--part", choices=["mixer", "rows", "peak"], help=argparse.SUPPRESS)
    parser.add_argument("--chunk", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    length, repeats = str(options.length), str(options.peer_repeats)
    if options.part:
        run = {"mixer": lambda: mixer_table(options.length, options.repeats),
               "rows": lambda: measure_length(options.length),
               "peak": lambda: measure_peak(options.length, options.chunk)}[options.part]  # fmt: skip
        print(json.dumps(run()))
        return
    table: dict = {
        "torch": torch.__version__, "threads": torch.get_num_threads(), "length": options.length,
        "backend": resolve_backend("auto", CPU), "capability": torch.backends.cpu.get_cpu_capability(),
        **ceilings(), "ssd": ssd_table(options.length, options.repeats),
    }  # fmt: skip
    installed = [None] if importlib.util.find_spec("transformers") else []
    table["mixer"] = [
        fresh(["--part", "mixer", "--length", length, "--repeats", repeats], site)
        | {"peak_chunk_256": fresh(["--part", "peak", "--length", length, "--chunk", "256"], site)}
        for site in [*installed, *options.site]
    ] or [fresh(["--part", "mixer", "--length", length])]
    table["peak_ours"] = fresh(["--part", "peak", "--length", length])
    if options.long:
        table["long"] = [fresh(["--part", "rows", "--length", str(n)]) for n in LENGTHS]
        for kind in ("wall", "cpu"):
            rate = [row[f"{kind}_microseconds_per_row"] for row in table["long"]]
            table[f"{kind}_time_per_row_50178_over_784"] = round(rate[-1] / rate[0], 3)
    print(json.dumps(table, indent=None if options.json else 2))


if __name__ == "__main__":
    main()
