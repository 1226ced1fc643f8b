"""The machine a trial runs on: which device, what it is called, how much memory was needed."""

from __future__ import annotations

import platform
import resource
import sys
from pathlib import Path

import torch


def default_device() -> torch.device:
    """The first GPU if torch sees one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe_device(device: torch.device) -> str:
    """The product name of a GPU, or of the processor with the threads that torch may use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"


def peak_memory_bytes(device: torch.device) -> int:
    """Largest memory held at once: allocated on a GPU, else resident in the process (libraries included)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
