"""The one SSD function ; `backends` decides what runs it."""

from __future__ import annotations

import torch
from torch import Tensor

from patchscale.errors import InputError
from patchscale.mixers.backends import resolve_backend
from patchscale.mixers.chunked import ChunkedSSD, pick_chunk
from patchscale.mixers.plain import ssd_plain
from patchscale.mixers.reference import ssd_reference


def ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    chunk_size: int | None = None,
    initial_state: Tensor | None = None,
    return_final_state: bool = False,
    backend: str = "auto",
) -> Tensor | tuple[Tensor, Tensor]:
    """h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T;  y_t = h_t C_t + D x_t, for one group of B and C.

    Args:
        x: [B, L, H, P], float32, bfloat16 or float64.
        dt: [B, L, H], after softplus (float32 is kept as such whatever x is).
        A: [H], negative.
        B, C: [B, L, N].
        D: [H] or None.
        chunk_size: positions per chunk of the chunked backends; None picks one for the device.
        initial_state: [B, H, P, N] or None for zeros.
        return_final_state: also return the state after the last position, in float32 (float64 for float64 inputs).
        backend: `auto` or one of `BACKENDS`; see `patchscale.mixers.backends`.

    Returns:
        y [B, L, H, P] in the dtype of x, or (y, state).

    Raises:
        InputError: unknown or missing backend, a dtype it does not take, or shapes that do not fit together.
    """
    _check(x, dt, A, B, C, D, chunk_size, initial_state)
    name = resolve_backend(backend, x.device)
    B, C = B.to(x.dtype), C.to(x.dtype)
    chunk = chunk_size or pick_chunk(x.shape[1], x.device)
    if name == "reference":
        y, state = ssd_reference(x, dt, A, B, C, D, initial_state)
    elif name in ("torch", "native") and (torch.compiler.is_compiling() or torch.compiler.is_exporting()):
        y, state = ssd_plain(x, dt, A, B, C, D, initial_state, chunk)
    elif name == "torch":
        y, state = ChunkedSSD.apply(x, dt, A, B, C, D, initial_state, chunk, return_final_state)
    elif name == "native":
        from patchscale.mixers.native import NativeSSD, native_chunk

        chunk = chunk_size or native_chunk(x.shape[1])
        y, state = NativeSSD.apply(x, dt, A, B, C, D, initial_state, chunk, return_final_state)
    elif x.dtype == torch.float64:
        raise InputError(f"SSD backend {name!r} does not take float64; use torch or reference")
    elif name == "triton":
        from patchscale.mixers.triton_ssd import CHUNK, TritonSSD

        y, state = TritonSSD.apply(x, dt, A, B, C, D, initial_state, chunk_size or CHUNK)
    else:
        from patchscale.mixers.external import ssd_fla, ssd_mamba

        run = ssd_mamba if name == "mamba_ssm" else ssd_fla
        y, state = run(x, dt, A, B, C, D, initial_state, chunk)
    return (y, state) if return_final_state else y


def _check(x, dt, A, B, C, D, chunk_size, initial_state) -> None:
    if x.ndim != 4:
        raise InputError(f"x has shape {tuple(x.shape)}; expected [batch, length, heads, head width]")
    batch, length, heads, width = x.shape
    state_width = B.shape[-1]
    expected = {
        "dt": (dt, (batch, length, heads)),
        "A": (A, (heads,)),
        "B": (B, (batch, length, state_width)),
        "C": (C, (batch, length, state_width)),
        "D": (D, (heads,)),
        "initial_state": (initial_state, (batch, heads, width, state_width)),
    }
    for name, (tensor, shape) in expected.items():
        if tensor is not None and tuple(tensor.shape) != shape:
            raise InputError(f"{name} has shape {tuple(tensor.shape)}; expected {shape} for x of {tuple(x.shape)}")
    if chunk_size is not None and chunk_size < 1:
        raise InputError(f"chunk_size {chunk_size} is not positive; use 32 to 256, or None")
