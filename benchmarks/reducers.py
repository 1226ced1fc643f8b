"""Time of every reducer against N and K, and what it saves: a whole model with K tokens against the one with all.

    python benchmarks/reducers.py [--model deit_tiny_patch16] [--batch 8] [--repeats 5] [--json OUT.json]

First every reducer's output is verified (rows, assignment, finite); nothing is printed before. Times are the least of
`--repeats` on one thread (or on the GPU), so that other work on the machine matters least; read the ratios. "Counted"
is the ratio of FLOPs, the reducer's own included: where measured and counted speed-up differ, FLOPs are not the cost.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from patchscale.cost import TokenReduction, estimate, shape_of
from patchscale.models import create
from patchscale.tokens.reducers import REDUCERS, build_reducer

SIZES = [(196, 98), (196, 49), (784, 196), (784, 49), (3136, 196)]
"""(N, K) of the reducers alone."""

SLOW = {"filtering_released": 784}
"""The largest N at which a reducer with K experts is timed."""


def least(call: Callable[[], Any], repeats: int, device: torch.device) -> float:
    """Seconds of the fastest of `repeats` calls, after one to warm up."""
    times = []
    for index in range(repeats + 1):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if index:
            times.append(time.perf_counter() - start)
    return min(times)


def verify(name: str, tokens: torch.Tensor, keep: int) -> None:
    """Stops the benchmark if a reducer's result is not one."""
    reducer = build_reducer(name, dim=tokens.shape[2], slots=keep).to(tokens.device).eval()
    found = reducer(tokens, keep, scores=tokens.norm(dim=2))
    assert found.tokens.shape == (len(tokens), keep, tokens.shape[2]), name
    assert found.tokens.isfinite().all(), name
    assert -1 <= int(found.assignment.min()) <= int(found.assignment.max()) < keep, name


def alone(dim: int, batch: int, repeats: int, device: torch.device) -> list[dict[str, Any]]:
    """Milliseconds an image of every reducer by itself, forward."""
    rows = []
    for count, keep in SIZES:
        tokens = torch.randn(batch, count, dim, device=device)
        scores = tokens.norm(dim=2)
        for name in REDUCERS:
            if count > SLOW.get(name, count):
                continue
            reducer = build_reducer(name, dim=dim, slots=keep).to(device).eval()
            with torch.no_grad():
                seconds = least(partial(reducer, tokens, keep, scores=scores), repeats, device)
            rows.append({"reducer": name, "tokens": count, "keep": keep, "ms": 1e3 * seconds / batch})
    return rows


def whole(model_name: str, batch: int, repeats: int, device: torch.device) -> list[dict[str, Any]]:
    """Speed of the model with K of 196 tokens over the model with all, measured and counted."""
    images = torch.randn(batch, 3, 224, 224, device=device)
    full_cost = estimate(model_name, input_size=224).flops_forward

    def seconds(**options: Any) -> float:
        model = create(model_name, input_size=(224, 224), patch_size=16, num_classes=1000, **options)
        model = model.to(device).eval()
        with torch.no_grad():
            return least(lambda: model(images), repeats, device)

    full = seconds()
    rows = []
    for name in REDUCERS:
        for keep in (98, 49):
            cost = estimate(model_name, input_size=224, reduction=TokenReduction(name, keep)).flops_forward
            rows.append(
                {"reducer": name, "keep": keep, "measured": full / seconds(reducer=name, kept_tokens=keep)}
                | {"counted": full_cost / cost}
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="deit_tiny_patch16")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dim = shape_of(arguments.model).embed_dim
    for name in REDUCERS:
        verify(name, torch.randn(2, 64, dim, device=device), 16)
    by_itself = alone(dim, arguments.batch, arguments.repeats, device)
    print(f"milliseconds an image, width {dim}, batch {arguments.batch}, {device.type}")
    print(f"{'reducer':<20}" + "".join(f"{f'{n} -> {k}':>14}" for n, k in SIZES))
    for name in REDUCERS:
        times = {(row["tokens"], row["keep"]): row["ms"] for row in by_itself if row["reducer"] == name}
        print(f"{name:<20}" + "".join(f"{times[s]:>14.3f}" if s in times else f"{'-':>14}" for s in SIZES))
    together = whole(arguments.model, arguments.batch, arguments.repeats, device)
    print(f"speed-up of {arguments.model} at 224, K of 196 tokens before block 0: measured (counted)")
    for name in REDUCERS:
        mine = [row for row in together if row["reducer"] == name]
        cells = "".join(f"   K = {row['keep']}: {row['measured']:.2f} ({row['counted']:.2f})" for row in mine)
        print(f"{name:<20}{cells}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"alone": by_itself, "whole": together}, indent=2) + "\n")


if __name__ == "__main__":
    main()
