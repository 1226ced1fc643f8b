"""What the GPU scripts share: options, a log that survives being cut off, clocks, ceilings.

Every script takes `--out DIR` (one JSON line per finished case in DIR/<script>.jsonl; cases found there are not run
again), `--tiny` (the same cases at sizes for a dry run on a CPU) and `--minutes` (no new case is begun after that).
Runs without installation: PYTHONPATH=src python benchmarks/gpu/<script>.py --out DIR
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def options(text: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument("--tiny", action="store_true", help="sizes for a dry run on a CPU")
    parser.add_argument("--minutes", type=float, default=9.0, help="begin no case after so many minutes")
    found = parser.parse_args()
    if not found.tiny and not torch.cuda.is_available():
        parser.error("no CUDA device; use --tiny for a dry run on the CPU")
    return found


class Log:
    """Finished cases, one JSON line each, on disk as soon as they are known."""

    def __init__(self, chosen: argparse.Namespace, script: str):
        chosen.out.mkdir(parents=True, exist_ok=True)
        self.path, self.stop = chosen.out / f"{Path(script).stem}.jsonl", time.monotonic() + 60 * chosen.minutes
        lines = self.path.read_text().splitlines() if self.path.is_file() else []
        self.rows: dict[str, dict] = {}
        for line in lines:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:  # cut off within a line
                continue
            self.rows[row["case"]] = row

    def write(self, case: str, **facts: Any) -> None:
        row = {"case": case, **facts}
        fresh_line = self.path.is_file() and not self.path.read_bytes().endswith(b"\n")
        with self.path.open("a") as file:
            file.write(("\n" if fresh_line else "") + json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.rows[case] = row
        print(json.dumps(row), flush=True)

    def measure(self, case: str, run: Callable[[], dict]) -> None:
        """Runs one case unless it is known; what fails is a result too."""
        if case in self.rows:
            return
        if time.monotonic() > self.stop:
            print(f"no time left for {case}", flush=True)
            return
        try:
            facts = run()
        except torch.OutOfMemoryError:
            facts = {"failed": "out of memory"}
        except Exception as error:  # a peer that fails must not end the table
            facts = {"failed": f"{type(error).__name__}: {error}"[:300]}
        self.write(case, **facts)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def table(self, columns: list[str]) -> None:
        """The short table at the end."""
        width = max([4, *(len(case) for case in self.rows)])
        print("\n" + "case".ljust(width), *(column.rjust(14) for column in columns))
        for case, row in self.rows.items():
            if "failed" in row:
                print(case.ljust(width), row["failed"])
            else:
                print(case.ljust(width), *(_short(row.get(column)).rjust(14) for column in columns))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def about() -> dict:
    """Device, versions, commit."""
    where = Path(__file__).resolve().parents[2]
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=where, capture_output=True, text=True).stdout.strip()
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {"device": name, "torch": torch.__version__, "python": platform.python_version(), "commit": commit or None}


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def best_seconds(runs: dict[str, Callable], repeats: int) -> dict[str, float]:
    """Seconds of each run: the minimum of interleaved repeats, after two calls that may compile."""
    best = dict.fromkeys(runs, float("inf"))
    for repeat in range(repeats + 2):
        for name, run in runs.items():
            wait()
            start = time.perf_counter()
            run()
            wait()
            if repeat > 1:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def peak_bytes(run: Callable) -> int:
    """CUDA memory that a run adds at its peak; 0 on a CPU."""
    if not torch.cuda.is_available():
        run()
        return 0
    wait()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    wait()
    return torch.cuda.max_memory_allocated() - before


def ceilings(tiny: bool) -> dict[str, float]:
    """Measured FLOP/s of a large bfloat16 product and bytes/s of a copy."""
    side, count = (128, 1 << 16) if tiny else (8192, 1 << 29)
    a = torch.randn(side, side, device=device(), dtype=torch.bfloat16)
    source = torch.empty(count, device=device()).zero_()
    target = torch.empty_like(source)
    best = best_seconds({"product": lambda: a @ a, "copy": lambda: target.copy_(source)}, 10)
    return {"flops": 2 * side**3 / best["product"], "bytes": 8 * count / best["copy"]}
