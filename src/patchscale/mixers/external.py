"""Adapters to other people's SSD kernels, guarded against their 32-bit offsets. Shapes as in `mixers.ssd`."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from patchscale.errors import InputError

OFFSET_LIMIT = 2**31 - 1


def largest_offset(t: Tensor) -> int:
    """The largest element offset that a kernel reaches in this view, counted from its first element."""
    return sum((size - 1) * stride for size, stride in zip(t.shape, t.stride(), strict=True)) if t.numel() else 0


def images_per_call(tensors: list[Tensor], heads: int, limit: int = OFFSET_LIMIT) -> int:
    """How many images fit one call of a kernel that indexes in 32 bits.

    Args:
        tensors: inputs with the batch first; each may be a slice of a wider projection.
        heads: the state tensors that such kernels make per head are counted as H tensors of x's size at most.

    Raises:
        InputError: one image alone is beyond the limit.
    """
    batch = tensors[0].shape[0]
    worst = max(max(largest_offset(t[:1]) + 1, t.stride(0) if batch > 1 else 0) for t in tensors)
    worst = max(worst, max(t[:1].numel() * (heads if t.ndim == 3 else 1) for t in tensors))
    if worst > limit:
        raise InputError(
            f"one image reaches element offset {worst}, beyond the kernel's 32-bit limit {limit}; use the triton or "
            "torch backend"
        )
    return min(batch, limit // worst)


def in_pieces(run: Callable[..., tuple[Tensor, Tensor]], heads: int, batched: dict[str, Tensor | None], limit: int):
    """Runs `run` over groups of images small enough for 32-bit offsets."""
    given = [t for t in batched.values() if t is not None]
    size = images_per_call(given, heads, limit)
    batch = given[0].shape[0]
    parts = [
        run(**{name: None if t is None else t[i : i + size] for name, t in batched.items()})
        for i in range(0, batch, size)
    ]
    if len(parts) == 1:
        return parts[0]
    return torch.cat([y for y, _ in parts]), torch.cat([state for _, state in parts])


def ssd_mamba(x, dt, A, B, C, D, initial_state, chunk: int) -> tuple[Tensor, Tensor]:
    """`ssd` by mamba-ssm's Triton kernels."""
    from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined  # type: ignore[import-not-found]

    def run(x, dt, B, C, initial):
        return mamba_chunk_scan_combined(
            x, dt, A, B[:, :, None], C[:, :, None], chunk, D=D, initial_states=initial, return_final_states=True
        )

    batched = {"x": x, "dt": dt, "B": B, "C": C, "initial": initial_state}
    return in_pieces(run, x.shape[2], batched, OFFSET_LIMIT)


def ssd_fla(x, dt, A, B, C, D, initial_state, chunk: int) -> tuple[Tensor, Tensor]:
    """`ssd` by flash-linear-attention's simple GLA: queries C, keys B, values dt x, log-gates dt A."""
    from fla.ops.simple_gla import chunk_simple_gla  # type: ignore[import-not-found]

    heads = x.shape[2]

    def run(x, dt, B, C, initial):
        wide = (-1, -1, heads, -1)
        y, state = chunk_simple_gla(
            C[:, :, None].expand(wide).contiguous(),
            B[:, :, None].expand(wide).contiguous(),
            (x * dt.to(x.dtype)[..., None]).contiguous(),
            g=(dt.float() * A.float()).contiguous(),
            scale=1.0,
            initial_state=None if initial is None else initial.transpose(-1, -2).contiguous(),
            output_final_state=True,
        )
        y = y if D is None else y + x * D.to(x.dtype)[:, None]
        return y, state.transpose(-1, -2)

    batched = {"x": x, "dt": dt, "B": B, "C": C, "initial": initial_state}
    return in_pieces(run, heads, batched, OFFSET_LIMIT)
