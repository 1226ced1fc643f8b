"""The machine a trial runs on: which device, what it is called, how much memory was needed."""

from __future__ import annotations

import os
import platform
import resource
import sys
from pathlib import Path

import torch

from patchscale.errors import InputError


def default_device() -> torch.device:
    """This process's GPU if torch sees any, else the CPU.

    Raises:
        InputError: torchrun started more processes on this machine than it has GPUs.
    """
    if not torch.cuda.is_available():
        return torch.device("cpu")
    number, count = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if number >= count:
        raise InputError(f"process {number} of this machine has no GPU; use --nproc-per-node {count}, or fewer")
    return torch.device("cuda", number)


def describe_device(device: torch.device, processes: int = 1) -> str:
    """The product name of a GPU, or of the processor with the threads that torch may use; and how many processes."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
    else:
        name = f"{_processor()}, {torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"
    return name if processes == 1 else f"{processes} processes on {name}"


def peak_memory_bytes(device: torch.device) -> int:
    """Largest memory held at once: allocated on a GPU, else resident in the process (libraries included)."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():  # `ru_maxrss` of Linux begins at what the process that started this one had held
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
