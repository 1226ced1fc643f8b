"""The other half of a block in one autograd function: x + scale * swiglu(norm(x)), a few rows at a time.

R rows (batch and sequence together), D width, M hidden width. Keeps x alone; the norm's weight is folded into w1, w2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from patchscale.mixers.lean import norm_backward, tile_rows
from patchscale.mixers.tile_ops import row_factor, tile_ops


def run_mlp(x, out, scale, norm, w1, b1, w2, b2, w3, b3, eps: float, compute: torch.dtype, backend: str) -> Tensor:
    """Writes x + scale * swiglu(norm(x)) to `out`, which may be x itself, and returns it."""
    w, b = _gate_weights(norm, w1, b1, w2, b2, compute)
    w3c, b3c, f = w3.to(compute), b3.to(compute), torch.promote_types(b3.dtype, torch.float32)
    ops = tile_ops(backend, compute)
    flat, flat_out, factors = _flat(x), out.view(-1, x.shape[-1]), _row_scale(scale, x)
    for rows in _row_slices(flat, w1.shape[0]):
        part = flat[rows].to(f)
        unit = part * row_factor(part, eps)
        act = ops.swiglu(torch.addmm(b, unit.to(compute), w.t()))
        y = torch.addmm(b3c, act, w3c.t()).to(part.dtype)
        y = y if factors is None else y * factors[rows]
        flat_out[rows] = part + y
    return out


@torch.no_grad()
def lean_mlp_(x: Tensor, norm, w1, b1, w2, b2, w3, b3, eps: float, compute: torch.dtype, backend: str) -> Tensor:
    """x += swiglu(norm(x)), in place, a few rows at a time. x must be contiguous."""
    return run_mlp(x, x, None, norm, w1, b1, w2, b2, w3, b3, eps, compute, backend)


class LeanMlp(torch.autograd.Function):
    """x + scale * (w3 (silu(w1 u) * w2 u)), u = norm(x); `scale` is [B, 1, 1] or None for one."""

    @staticmethod
    def forward(ctx, x, scale, norm, w1, b1, w2, b2, w3, b3, eps: float, compute: torch.dtype, backend: str):
        ctx.save_for_backward(x, scale, norm, w1, b1, w2, b2, w3, b3)
        ctx.eps, ctx.compute, ctx.backend = eps, compute, backend
        out = torch.empty_like(x, memory_format=torch.contiguous_format)
        return run_mlp(x, out, scale, norm, w1, b1, w2, b2, w3, b3, eps, compute, backend)

    @staticmethod
    def backward(ctx, d_out):
        x, scale, norm, w1, b1, w2, b2, w3, b3 = ctx.saved_tensors
        eps, compute, f = ctx.eps, ctx.compute, torch.promote_types(b3.dtype, torch.float32)
        w, b = _gate_weights(norm, w1, b1, w2, b2, compute)
        w3c, ops = w3.to(compute), tile_ops(ctx.backend, compute)
        dw, db = torch.zeros_like(w, dtype=f), torch.zeros_like(b, dtype=f)
        dw3, db3 = torch.zeros_like(w3, dtype=f), torch.zeros_like(b3, dtype=f)
        dx = torch.empty_like(x, memory_format=torch.contiguous_format)
        flat, flat_d, flat_dx, factors = _flat(x), _flat(d_out), dx.view(-1, x.shape[-1]), _row_scale(scale, x)
        d_rows = torch.empty_like(flat[:, :1]) if ctx.needs_input_grad[1] else None
        for rows in _row_slices(flat, w1.shape[0]):
            part, dy = flat[rows].to(f), flat_d[rows].to(f)
            factor = row_factor(part, eps)
            unit = part * factor
            h = torch.addmm(b, unit.to(compute), w.t())
            act = ops.swiglu(h)
            scaled = dy if factors is None else dy * factors[rows]
            if d_rows is not None:
                y = torch.addmm(b3.to(compute), act, w3c.t()).to(f)
                d_rows[rows] = (y * dy).sum(-1, keepdim=True).to(d_rows.dtype)
            _accumulate(dw3, scaled, act, compute)
            db3 += scaled.sum(0)
            d_act = torch.mm(scaled.to(compute), w3c)
            dh = ops.swiglu_backward(d_act, h)
            _accumulate(dw, dh, unit, compute)
            db += dh.sum(0)
            d_unit = torch.mm(dh, w).to(f)
            flat_dx[rows] = norm_backward(d_unit, unit, factor).add_(dy)
        d_scale = None if d_rows is None else d_rows.view(x.shape[0], -1, 1).sum(1, keepdim=True)
        whole = torch.cat([w1, w2])
        dw1, dw2 = (dw * norm).chunk(2)
        d_norm = (dw * whole).sum(0)
        db1, db2 = db.chunk(2)
        grads = (t.to(w3.dtype) for t in (d_norm, dw1, db1, dw2, db2, dw3, db3))
        return dx, d_scale, *grads, None, None, None


def _gate_weights(norm, w1, b1, w2, b2, compute) -> tuple[Tensor, Tensor]:
    return (torch.cat([w1, w2]) * norm).to(compute), torch.cat([b1, b2]).to(compute)


def _accumulate(total: Tensor, left: Tensor, right: Tensor, compute: torch.dtype) -> None:
    if compute == total.dtype:
        total.addmm_(left.t(), right)
    else:
        total += torch.mm(left.to(compute).t(), right.to(compute))


def _flat(x: Tensor) -> Tensor:
    return x.reshape(-1, x.shape[-1])


def _row_scale(scale: Tensor | None, x: Tensor) -> Tensor | None:
    return None if scale is None else scale.expand(x.shape[0], x.shape[1], 1).reshape(-1, 1)


def _row_slices(flat: Tensor, hidden: int) -> list[slice]:
    step = tile_rows(2 * hidden, flat.device)
    count = max(1, -(-flat.shape[0] // step))
    size = max(1, -(-flat.shape[0] // count))
    return [slice(i, i + size) for i in range(0, flat.shape[0], size)]
