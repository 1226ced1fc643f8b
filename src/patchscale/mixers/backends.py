"""Which SSD backends this machine has, which one will run, and what would make it faster."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import asdict, dataclass

import torch

from patchscale.errors import InputError
from patchscale.mixers.native_build import NativeUnavailable, library

BACKENDS = ("reference", "torch", "native", "triton", "mamba_ssm", "fla")


@dataclass(frozen=True)
class BackendStatus:
    """One backend on one kind of device: whether it can run, why (not), and how to get it."""

    name: str
    available: bool
    reason: str
    hint: str = ""


def interpreted() -> bool:
    """Whether Triton kernels would run in its interpreter."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def status(name: str, device: torch.device) -> BackendStatus:
    """What stands in the way of one backend on `device`, if anything.

    Raises:
        InputError: the name is unknown.
    """
    if name not in BACKENDS:
        raise InputError(f"unknown SSD backend {name!r}; use auto or one of {', '.join(BACKENDS)}")
    if name == "reference":
        return BackendStatus(name, True, "step by step, the oracle; slow")
    if name == "torch":
        return BackendStatus(name, True, "chunks of matrix products; runs everywhere")
    if name == "native":
        return _native_status(device)
    package = {"triton": "triton", "mamba_ssm": "mamba_ssm", "fla": "fla"}[name]
    wheel = {"triton": "triton", "mamba_ssm": "mamba-ssm", "fla": "flash-linear-attention"}[name]
    if importlib.util.find_spec(package) is None:
        return BackendStatus(name, False, f"the package {wheel} is not installed", f"pip install {wheel}")
    if device.type == "cuda" or (name == "triton" and interpreted()):
        where = "in Triton's interpreter: for tests, very slow" if device.type != "cuda" else "on the GPU"
        return BackendStatus(name, True, where)
    return BackendStatus(name, False, f"needs an NVIDIA GPU, the tensors are on {device.type}", "run on a GPU")


def _native_status(device: torch.device) -> BackendStatus:
    if device.type != "cpu":
        return BackendStatus("native", False, f"needs a CPU, the tensors are on {device.type}", "use triton or torch")
    try:
        library()
    except NativeUnavailable as error:
        return BackendStatus("native", False, str(error), "install g++")
    return BackendStatus("native", True, "our C++ kernel, compiled here for this processor")


def resolve_backend(backend: str, device: torch.device) -> str:
    """The backend that will run on `device`. `auto`: triton on a GPU that has it, native on a CPU that can compile it,
    else torch. Any other name must work.

    Raises:
        InputError: the name is unknown, or the named backend cannot run here.
    """
    if backend == "auto":
        best = {"cuda": "triton", "cpu": "native"}.get(device.type)
        return best if best and status(best, device).available else "torch"
    found = status(backend, device)
    if not found.available:
        raise InputError(f"SSD backend {backend!r} cannot run: {found.reason}; {found.hint}, or use backend auto")
    return backend


def backend_report(device: torch.device | str | None = None) -> dict:
    """For `patchscale doctor`: device, auto (the backend that will run), why, faster (a hint), backends (a list)."""
    device = torch.device(device if device is not None else "cuda" if torch.cuda.is_available() else "cpu")
    chosen = resolve_backend("auto", device)
    if device.type == "cuda":
        faster = "" if chosen == "triton" else "install triton: our GPU kernels need it"
    else:
        faster = "an NVIDIA GPU; on this CPU: more cores, or several one-thread workers for small models"
        if device.type == "cpu" and chosen != "native":
            faster = "a C++ compiler (g++): our kernel for CPUs needs one, once; " + faster
    return {
        "device": str(device),
        "auto": chosen,
        "why": status(chosen, device).reason,
        "faster": faster,
        "backends": [asdict(status(name, device)) for name in BACKENDS],
    }
