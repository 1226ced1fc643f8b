"""Devices: dense peaks, bandwidths and memory from the makers' data sheets, and stated efficiencies.

Efficiency is model FLOPs (three times the forward pass, `patchscale.cost.terms`) over time over dense peak. Two numbers
are published and stand in `PUBLISHED_EFFICIENCY`: an A100 trains DeiT-Base at 0.323 and Adventurer-Base at 0.306 of its
half-precision peak (each the value that makes the largest relative error over table 6's five patch sizes smallest; see
docs/cost.md). Other GPUs take the same two numbers until `patchscale cost --calibrate` has measured them: that is an
assumption, and `Device.time_factor` widens their hours accordingly.
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass, field
from typing import Any

from patchscale.errors import InputError

GB, GIB = 10**9, 2**30

PUBLISHED_EFFICIENCY = {"deit": 0.323, "adventurer": 0.306}


@dataclass(frozen=True)
class Device:
    """One accelerator, or the cores of one machine.

    Attributes:
        name: what the user types, such as `h100`.
        title: the full name.
        peak_flops: dense FLOP/s of matrix products, by precision (`float32`, `bfloat16`).
        bandwidth: bytes/s of main memory.
        memory_bytes: memory of one device.
        link: bytes/s, one direction, between devices of a node.
        network: bytes/s, one direction and per device, between nodes.
        efficiency: share of the peak that training reaches, by model family.
        time_factor: the true time lies between predicted / factor and predicted * factor; stated, not fitted.
        source: where the numbers come from.
        is_cpu: the cores of a machine, not an accelerator.
    """

    name: str
    title: str
    peak_flops: dict[str, float]
    bandwidth: float
    memory_bytes: float
    link: float
    network: float = 25 * GB
    efficiency: dict[str, float] = field(default_factory=lambda: dict(PUBLISHED_EFFICIENCY))
    time_factor: float = 1.5
    source: str = ""
    is_cpu: bool = False

    @property
    def precision(self) -> str:
        """The faster of its precisions: what a plan trains in."""
        return max(self.peak_flops, key=lambda name: self.peak_flops[name])

    def peak(self, precision: str) -> float:
        """Dense FLOP/s in `precision` (float16 counts as bfloat16).

        Raises:
            InputError: this device has no peak for it.
        """
        precision = "bfloat16" if precision == "float16" else precision
        if precision not in self.peak_flops:
            raise InputError(f"{self.name} has no {precision} peak; use one of {', '.join(self.peak_flops)}")
        return self.peak_flops[precision]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return dataclasses.asdict(self)


def _peaks(bfloat16: float, float32: float) -> dict[str, float]:
    return {"float32": float32 * 1e12, "bfloat16": bfloat16 * 1e12}


_CPU_EFFICIENCY = {"deit": 0.45, "adventurer": 0.2}
_ASSUMED = "; efficiency assumed equal to the A100's of table 6"

_ALL = [
    Device(
        "a100",
        "NVIDIA A100 SXM 80 GB",
        _peaks(312, 19.5),
        2039 * GB,
        80 * GIB,
        300 * GB,
        time_factor=1.15,
        source="NVIDIA A100 data sheet (SXM, 80 GB, dense); efficiency: table 6 of the patchification paper",
    ),
    Device(
        "h100",
        "NVIDIA H100 SXM",
        _peaks(989.4, 66.9),
        3350 * GB,
        80 * GIB,
        450 * GB,
        source="NVIDIA H100 data sheet (SXM5, dense: half of the sparse figures)" + _ASSUMED,
    ),
    Device(
        "h200",
        "NVIDIA H200 SXM",
        _peaks(989.4, 66.9),
        4800 * GB,
        141 * GB,
        450 * GB,
        source="NVIDIA H200 data sheet (SXM, dense)" + _ASSUMED,
    ),
    Device(
        "l40s",
        "NVIDIA L40S",
        _peaks(362.05, 91.6),
        864 * GB,
        48 * GIB,
        32 * GB,
        source="NVIDIA L40S data sheet (dense; PCIe 4.0 x16)" + _ASSUMED,
    ),
    Device(
        "rtx4090",
        "NVIDIA GeForce RTX 4090",
        _peaks(165.2, 82.6),
        1008 * GB,
        24 * GIB,
        32 * GB,
        source="NVIDIA Ada architecture paper (bfloat16 with float32 accumulation, dense; PCIe 4.0 x16)" + _ASSUMED,
    ),
    Device(
        "cpu",
        "two server cores",
        {"float32": 0.2e12},
        20 * GB,
        16 * GIB,
        10 * GB,
        network=1 * GB,
        efficiency=_CPU_EFFICIENCY,
        time_factor=2.5,
        source="a rough guess for two cores with AVX-512; measure yours with --calibrate",
        is_cpu=True,
    ),
    Device(
        "laptop",
        "a laptop's CPU, eight cores",
        {"float32": 0.5e12},
        60 * GB,
        16 * GIB,
        10 * GB,
        network=1 * GB,
        efficiency=_CPU_EFFICIENCY,
        time_factor=2.5,
        source="a rough guess for eight laptop cores; measure yours with --calibrate",
        is_cpu=True,
    ),
]
DEVICES: dict[str, Device] = {device.name: device for device in _ALL}


def device_of(name: str | Device) -> Device:
    """The device of that name; a device (such as a calibrated one) is returned as it is.

    Raises:
        InputError: the name is unknown.
    """
    if isinstance(name, Device):
        return name
    key = name.lower().replace(" ", "").replace("-", "").replace("_", "")
    if key in DEVICES:
        return DEVICES[key]
    close = difflib.get_close_matches(key, DEVICES, n=2, cutoff=0.5) or sorted(DEVICES)
    raise InputError(
        f"unknown device {name!r}; use one of {', '.join(close)}, or measure this machine with --calibrate"
    )
