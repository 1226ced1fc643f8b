"""Training steps (forward, backward, AdamW) or one inference at many tokens: time and peak memory of a fresh process.

    python benchmarks/train_step.py --model adventurer_tiny_patch1 --input 224 --patch 1 [--steps 2] [--recompute]
    python benchmarks/train_step.py --model adventurer_tiny_patch1 --input 1024 --patch 1 --inference

Peak memory is the process's largest resident set, weights, optimizer and Python included, through the last step.
Against a plain form: add --plain (the same model without tiles).
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import torch
import torch.nn.functional as F

from patchscale.models import create
from patchscale.training.machine import peak_memory_bytes


def peak_gib() -> float:
    return peak_memory_bytes(torch.device("cpu")) / 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="adventurer_tiny_patch1")
    parser.add_argument("--input", type=int, default=224)
    parser.add_argument("--patch", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--recompute", action="store_true", help="keep one residual stream per block, not two")
    parser.add_argument("--plain", action="store_true", help="without tiles")
    parser.add_argument("--inference", action="store_true")
    options = parser.parse_args()

    imported = peak_gib()
    torch.manual_seed(0)
    size = (options.input, options.input)
    model = create(options.model, input_size=size, patch_size=options.patch, num_classes=options.classes)
    model.set_grad_checkpointing(options.recompute)  # type: ignore[operator]
    if options.plain:
        for layer in model.layers:  # type: ignore[union-attr]
            layer.lean = False
    images = torch.randn(options.batch, 3, *size)
    seconds = []
    if options.inference:
        model.eval()
        start = time.perf_counter()

        def progress(done: int, total: int) -> None:
            spent = time.perf_counter() - start
            left = spent / done * (total - done)
            print(f"block {done}/{total}  {spent:.0f} s  about {left:.0f} s left", file=sys.stderr, flush=True)

        with torch.no_grad():
            model(images, progress=progress)
        seconds.append(time.perf_counter() - start)
    else:
        labels = torch.zeros(options.batch, dtype=torch.long)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        for _ in range(options.steps):
            start = time.perf_counter()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seconds.append(time.perf_counter() - start)
            print(f"step {len(seconds)}: {seconds[-1]:.1f} s, peak {peak_gib():.2f} GiB", file=sys.stderr, flush=True)
    tokens = (options.input // options.patch) ** 2
    parameters = sum(p.numel() for p in model.parameters())
    print(
        json.dumps(
            {
                "model": options.model, "tokens": tokens, "batch": options.batch, "parameters": parameters,
                "threads": torch.get_num_threads(), "seconds": [round(s, 2) for s in seconds],
                "peak_gib": round(peak_gib(), 2), "after_import_gib": round(imported, 2),
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
