"""Compares the memory model with this machine: peak minus resident memory after import, a fresh process each.

    python benchmarks/memory_model.py [--only NAME] [--json]

Each process builds a model, takes two AdamW steps on random images on the CPU and reports how far its resident memory
rose above what it was after the imports. The second step has weights, gradients, moments and activations together.
Takes some minutes on two cores and at most 8 GB. The last column is predicted over measured, minus one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from patchscale.cost import estimate, training_memory

CLASSES = 100


@dataclass(frozen=True)
class Case:
    """One configuration to measure."""

    model: str
    input_size: int
    patch_size: int
    batch_size: int
    precision: str = "float32"
    recompute: bool = False


CASES = [
    Case("deit_pico_patch16", 64, 8, 384),
    Case("deit_pico_patch16", 64, 8, 2048),
    Case("deit_nano_patch16", 64, 4, 64),
    Case("deit_nano_patch16", 64, 8, 1024),
    Case("deit_tiny_patch16", 224, 16, 12),
    Case("deit_tiny_patch16", 224, 16, 24),
    Case("deit_tiny_patch16", 32, 8, 512, "bfloat16"),
    Case("deit_small_patch16", 64, 8, 96, "bfloat16"),
    Case("deit_tiny_patch16", 64, 4, 48, "float32", True),
    Case("deit_tiny_patch16", 64, 4, 96, "float32", True),
    Case("deit_base_patch16", 64, 16, 16),
    Case("deit_large_patch16", 32, 16, 8),
    Case("adventurer_tiny_patch16", 64, 8, 64),
    Case("adventurer_small_patch16", 64, 16, 24),
    Case("adventurer_base_patch16", 32, 16, 8),
    Case("adventurer_large_patch16", 32, 16, 4),
]


def predict(case: Case) -> int:
    """The memory model's peak for a case."""
    cost = estimate(case.model, input_size=case.input_size, patch_size=case.patch_size, num_classes=CLASSES)
    return training_memory(
        cost, batch_size=case.batch_size, precision=case.precision, recompute=case.recompute, cpu=True
    ).peak


def resident_bytes(field: str) -> int:
    """`VmRSS` (now) or `VmHWM` (peak since the last reset) of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}; this benchmark needs Linux")


def measure(case: Case) -> int:
    """Bytes by which this process's resident memory rises in two training steps."""
    import torch
    from torch.nn.functional import cross_entropy

    from patchscale import models

    torch.ones(8, 8, requires_grad=True).matmul(torch.ones(8, 8)).sum().backward()
    Path("/proc/self/clear_refs").write_text("5")
    before = resident_bytes("VmRSS")
    size = (case.input_size, case.input_size)
    model = models.create(case.model, input_size=size, patch_size=case.patch_size, num_classes=CLASSES)
    model.set_grad_checkpointing(case.recompute)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    labels = torch.zeros(case.batch_size, dtype=torch.long)
    for _ in range(2):
        images = torch.rand(case.batch_size, 3, *size)
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=case.precision == "bfloat16"):
            loss = cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
    return resident_bytes("VmHWM") - before


def main() -> None:
    """Measures every case and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose model name contains this")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(measure(Case(**json.loads(options.one))))
        return
    rows = []
    if not options.json:
        print("| model | input | patch | batch | precision | recompute | measured GB | predicted GB | error |")
        print("|---|---|---|---|---|---|---|---|---|")
    for case in (case for case in CASES if options.only in case.model):
        command = [sys.executable, __file__, "--one", json.dumps(asdict(case))]
        measured = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        predicted = predict(case)
        error = predicted / measured - 1
        rows.append(asdict(case) | {"measured": measured, "predicted": predicted, "error": error})
        if not options.json:
            print(
                f"| {case.model} | {case.input_size} | {case.patch_size} | {case.batch_size} | {case.precision} | "
                f"{'on' if case.recompute else 'off'} | {measured / 1e9:.2f} | {predicted / 1e9:.2f} | {error:+.1%} |",
                flush=True,
            )
    worst = max(abs(row["error"]) for row in rows)
    print(json.dumps(rows, indent=2) if options.json else f"\n{len(rows)} cases, largest error {worst:.1%}")


if __name__ == "__main__":
    main()
