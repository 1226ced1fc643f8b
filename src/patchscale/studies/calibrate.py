"""Measures this machine in about a minute, as a `patchscale.cost.Device`: what `patchscale cost --calibrate` runs.

Peaks are the best rate of square matrix products, bandwidth that of copying a large tensor, and efficiency what a real
training step (forward, backward, AdamW) of each family reaches of the peak, in model FLOPs.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy

from patchscale.cost import Device, estimate
from patchscale.errors import InputError
from patchscale.models import create
from patchscale.training.machine import default_device, describe_device

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TIME_FACTOR = 1.25
"""Stated: other sizes than the measured ones reach between 1 / 1.25 and 1.25 times its efficiency."""
SHARES = {"peak": 0.15, "bandwidth": 0.1, "step": 0.3}
"""Share of the seconds for each product precision, the copy, and each family's step."""
CLASSES = 100
FASTEST = 3


def calibrate(seconds: float = 60.0, *, device: torch.device | None = None, name: str = "here") -> Device:
    """Measures the machine.

    Args:
        seconds: about how long to measure in all.
        device: what to measure; the first GPU if there is one, else the CPU with the threads torch has.
        name: of the returned device.

    Returns:
        A device with measured peaks, bandwidth and efficiencies; links are assumed (one device is measured alone).

    Raises:
        InputError: `seconds` is not positive.
    """
    if seconds <= 0:
        raise InputError(f"seconds {seconds} is not positive; a minute is enough")
    device = device or default_device()
    is_cpu = device.type == "cpu"
    peaks = {name: _peak(device, dtype, seconds * SHARES["peak"]) for name, dtype in PRECISIONS.items()}
    bandwidth = _bandwidth(device, seconds * SHARES["bandwidth"])
    precision = max(peaks, key=lambda key: peaks[key])
    efficiency = {
        family: _step_rate(family, device, precision, seconds * SHARES["step"]) / peaks[precision]
        for family in ("deit", "adventurer")
    }
    link = bandwidth / 2 if is_cpu else 32e9
    return Device(
        name=name,
        title=describe_device(device),
        peak_flops=peaks,
        bandwidth=bandwidth,
        memory_bytes=_memory(device),
        link=link,
        network=min(link, 1e9),
        efficiency=efficiency,
        time_factor=TIME_FACTOR,
        source=f"measured here in about {seconds:.0f} s; link and network assumed",
        is_cpu=is_cpu,
    )


def rate(work: float, action: Callable[[], object], seconds: float, device: torch.device) -> float:
    """Work per second of an action: the median of its fastest repetitions within `seconds`, after one to warm up."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < FASTEST + 1 or time.perf_counter() < end:
        _wait(device)
        started = time.perf_counter()
        action()
        _wait(device)
        times.append(time.perf_counter() - started)
        if len(times) > 2 and time.perf_counter() > end + seconds:
            break
    fastest = sorted(times[1:])[:FASTEST]
    return work / fastest[len(fastest) // 2]


def _peak(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """Best FLOP/s over two sizes of square products."""
    rates = []
    for side in (512, 1024) if device.type == "cpu" else (4096, 8192):
        left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        rates.append(rate(2 * side**3, functools.partial(torch.matmul, left, right), seconds / 2, device))
    return max(rates)


def _bandwidth(device: torch.device, seconds: float) -> float:
    """Bytes/s of a copy: every byte is read and written."""
    source = torch.zeros((1 << 26) if device.type == "cpu" else (1 << 29), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return rate(2 * source.nbytes, functools.partial(target.copy_, source), seconds, device)


def _step_rate(family: str, device: torch.device, precision: str, seconds: float) -> float:
    """Model FLOP/s of training steps: a nano model of 64 tokens on a CPU, a base model of 784 on a GPU."""
    size, side, patch_size, batch_size = ("nano", 64, 8, 16) if device.type == "cpu" else ("base", 224, 8, 32)
    model_name = f"{family}_{size}_patch16"
    cost = estimate(model_name, input_size=side, patch_size=patch_size, num_classes=CLASSES)
    model = create(model_name, input_size=(side, side), patch_size=patch_size, num_classes=CLASSES).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    images = torch.randn(batch_size, 3, side, side, device=device)
    labels = torch.zeros(batch_size, dtype=torch.long, device=device)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            loss = cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()

    return rate(batch_size * cost.flops_train, step, seconds, device)


def _memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
