"""Half a block in one autograd function: x + scale * mixer(norm(x)), tile by tile, keeping almost nothing.

B batch, N + 1 rows of x (class token last), D width, E inner width, T rows of a tile, H heads, P head width, S state.

The sequence that the mixer reads is [heading average, x's rows in the block's order]; it has N + 2 rows and is never
made as a whole. A tile is a group of images (short sequences) or a run of chunks of one sequence (long ones), small
enough for the processor's cache. The backward pass keeps x and one SSD state per tile and recomputes the rest; the
three inputs of the convolution before a tile are recomputed too.

Two foldings save passes over memory: the weight of the norm goes into in_proj's columns, the gated norm's into
out_proj's, and the gated norm's row factor is applied after out_proj.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from patchscale.mixers.chunked import slabs
from patchscale.mixers.tile_ops import row_factor, tile_ops

TILE_FLOATS_CPU = 400_000  # rows times channels of a tile: its arrays should lie in the second-level cache
TILE_ROWS_CPU = (512, 1024)  # but not so few rows that calls cost more than arithmetic
TILE_ROWS_GPU = 16_384


@dataclass(frozen=True)
class MixerSpec:
    """What is fixed about one mixer: flip, head width P, eps of both norms, chunk length, dtype of the products, and
    the SSD backend (torch or native)."""

    flip: bool
    headdim: int
    eps: float
    chunk: int | None
    compute: torch.dtype
    backend: str


def norm_backward(d_unit: Tensor, unit: Tensor, factor: Tensor) -> Tensor:
    """Gradient of x for unit = x * factor(x)."""
    inner = (d_unit * unit).mean(-1, keepdim=True)
    return torch.addcmul(d_unit, unit, inner, value=-1).mul_(factor)


def tile_rows(channels: int, device: torch.device) -> int:
    """Rows per tile for arrays of so many channels."""
    low, high = TILE_ROWS_CPU
    return min(max(TILE_FLOATS_CPU // channels, low), high) if device.type == "cpu" else TILE_ROWS_GPU


def tiles(batch: int, length: int, chunk: int, rows: int, device: torch.device):
    """Images per tile, and the (start, chunks, chunk length) cuts of the sequence."""
    if length * 2 > rows:
        together = 1 if device.type == "cpu" else batch
        return together, slabs(length, chunk, max(1, rows // (chunk * together)))
    groups = -(-batch * length // rows)
    return -(-batch // groups), slabs(length, chunk, -(-length // chunk))


class _Weights:
    """The mixer's parameters, folded and cast once per call."""

    def __init__(self, norm, w_in, conv_w, conv_b, dt_bias, a_log, d, gate, w_out, spec: MixerSpec):
        self.f = f = torch.promote_types(w_in.dtype, torch.float32)
        self.spec = spec
        self.w_in, self.w_out = (w_in * norm).to(spec.compute), (w_out * gate).to(spec.compute)
        self.taps = conv_w[:, 0].to(f).t().contiguous()
        self.conv_b, self.dt_bias, self.A, self.D = conv_b.to(f), dt_bias.to(f), -torch.exp(a_log.to(f)), d.to(f)
        self.inner, self.heads = w_out.shape[1], a_log.shape[0]
        self.ops = tile_ops(spec.backend, f)
        self.state = (conv_w.shape[0] - self.inner) // 2


class _Rows:
    """Reads and writes the mixer's rows of x: row 0 is the heading average, the rest x's in the block's order."""

    def __init__(self, n: int, flip: bool):
        self.n, self.flip = n, flip

    def _parts(self, start: int, stop: int):
        """(slice of x, reversed) pieces of the mixer's rows [start, stop), row 0 not allowed."""
        if not self.flip:
            return [(slice(start - 1, stop - 1), False)]
        pieces = []
        if start <= self.n:
            pieces.append((slice(self.n - min(stop, self.n + 1) + 1, self.n - start + 1), True))
        if stop > self.n + 1:
            pieces.append((slice(self.n, self.n + 1), False))
        return pieces

    def read(self, x: Tensor, start: int, stop: int) -> Tensor:
        """Rows [start, stop) with start >= 1."""
        parts = [x[:, s].flip(1) if r else x[:, s] for s, r in self._parts(start, stop)]
        return parts[0] if len(parts) == 1 else torch.cat(parts, 1)

    def add(self, out: Tensor, start: int, stop: int, value: Tensor) -> None:
        """out += value at rows [start, stop), start >= 1."""
        done = 0
        for s, r in self._parts(start, stop):
            piece = value[:, done : done + s.stop - s.start]
            out[:, s] += piece.flip(1) if r else piece
            done += s.stop - s.start


class _Tile:
    """The forward pass of one tile up to the product with out_proj; what the backward pass needs stays as attributes.

    unit: [B, halo + T, D] normalised rows, `halo` of them before the tile; state: [B, H, P, S] that enters, or None.
    """

    def __init__(self, w: _Weights, unit: Tensor, halo: int, chunk: int, state: Tensor | None):
        f, inner, n = w.f, w.inner, w.state
        b, total, width = unit.shape
        self.unit = unit.to(w.spec.compute).reshape(b * total, width)
        zx = torch.mm(self.unit, w.w_in.t()).to(f).view(b, total, -1)
        self.z = zx[:, halo:, :inner]
        self.xbc = zx[:, :, inner : 2 * inner + 2 * n]
        self.pre, act = w.ops.conv(self.xbc, halo, w.taps, w.conv_b)
        self.raw = zx[:, halo:, 2 * inner + 2 * n :] + w.dt_bias
        x = act[..., :inner].unflatten(-1, (w.heads, w.spec.headdim))
        self.scan = w.ops.scan(x, F.softplus(self.raw), w.A, act[..., inner:-n], act[..., -n:], w.D, state, chunk)

    def gated(self, w: _Weights, want_last: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """g = y * silu(z) as [B*T, E], the gated norm's row factor [B*T, 1], and the state that leaves if wanted."""
        y, last = self.scan.forward(want_last)
        self.y = y.flatten(-2)
        return *w.ops.gate(self.y, self.z, w.spec.eps), last


def _unit_tile(unit_head, x, rows: _Rows, start: int, stop: int, halo: int, eps: float):
    """Normalised rows [start - halo, stop) and the row factors of those taken from x."""
    first = start - halo
    body = rows.read(x, max(first, 1), stop)
    factor = row_factor(body, eps)
    unit = body * factor
    return (torch.cat([unit_head, unit], 1) if first == 0 else unit), factor


def _heading(x: Tensor, eps: float, step: int) -> Tensor:
    """Mean of the normalised rows, [B, 1, D], a few rows at a time."""
    total = sum((p * row_factor(p, eps)).sum(1, keepdim=True) for p in x.split(step, dim=1))
    return total / x.shape[1]  # type: ignore[operator]


def run_mixer(w: _Weights, x: Tensor, out: Tensor, scale: Tensor | None):
    """Adds scale * mixer(norm(x)) to `out`, which may be x itself: each tile is read before it is written.

    Returns:
        Images per tile, the cuts of the sequence, and the SSD state that enters each tile (None for zeros).
    """
    spec, width = w.spec, x.shape[-1]
    batch, rows_x, k = x.shape[0], x.shape[1], w.taps.shape[0]
    chunk = max(spec.chunk or w.ops.pick_chunk(rows_x + 1, x.device), k - 1)  # holds what the convolution looks back on
    budget = tile_rows(w.w_in.shape[0], x.device)
    group, cuts = tiles(batch, rows_x + 1, chunk, budget, x.device)
    rows, kept = _Rows(rows_x - 1, spec.flip), []
    for first in range(0, batch, group):
        xb, ob = x[first : first + group].to(w.f), out[first : first + group]
        tail, state = _heading(xb, spec.eps, 4096), None
        for index, (start, count, q) in enumerate(cuts):
            stop, drop = start + count * q, int(start == 0)
            body = rows.read(xb, start + drop, stop)
            unit = torch.cat([tail, body * row_factor(body, spec.eps)], 1)
            kept.append(state)
            tile = _Tile(w, unit, 0 if drop else tail.shape[1], q, state)
            tail = unit[:, max(0, unit.shape[1] - k + 1) :]
            g, factor, state = tile.gated(w, index + 1 < len(cuts))
            y = torch.mm(g.to(spec.compute), w.w_out.t()).to(w.f).mul_(factor).view(len(xb), -1, width)
            y = y if scale is None else y * scale[first : first + group]
            rows.add(ob, start + drop, stop, y[:, drop:].to(x.dtype))
    return group, cuts, kept


@torch.no_grad()
def lean_mixer_(x: Tensor, norm, w_in, conv_w, conv_b, dt_bias, a_log, d, gate, w_out, spec: MixerSpec) -> Tensor:
    """x += mixer(norm(x)), in place; memory beyond x does not grow with its length."""
    run_mixer(_Weights(norm, w_in, conv_w, conv_b, dt_bias, a_log, d, gate, w_out, spec), x, x, None)
    return x


class LeanMixer(torch.autograd.Function):
    """x + scale * mixer(norm(x)); see the head of the file. `scale` is [B, 1, 1] or None for one."""

    @staticmethod
    def forward(ctx, x, scale, norm, w_in, conv_w, conv_b, dt_bias, a_log, d, gate, w_out, spec: MixerSpec):
        w = _Weights(norm, w_in, conv_w, conv_b, dt_bias, a_log, d, gate, w_out, spec)
        out = x.clone(memory_format=torch.contiguous_format)
        group, cuts, kept = run_mixer(w, x, out, scale)
        ctx.save_for_backward(x, scale, norm, w_in, conv_w, conv_b, dt_bias, a_log, d, gate, w_out, *kept)
        ctx.spec, ctx.cuts, ctx.group = spec, cuts, group
        return out

    @staticmethod
    def backward(ctx, d_out):
        x, scale, norm, w_in, conv_w, conv_b, dt_bias, a_log, d, gate, w_out, *kept = ctx.saved_tensors
        spec, cuts, group = ctx.spec, ctx.cuts, ctx.group
        w = _Weights(norm, w_in, conv_w, conv_b, dt_bias, a_log, d, gate, w_out, spec)
        grads = _Gradients(w)
        batch, rows_x, _ = x.shape
        dx = d_out.clone(memory_format=torch.contiguous_format)
        rows = _Rows(rows_x - 1, spec.flip)
        d_scale = torch.zeros_like(scale) if ctx.needs_input_grad[1] else None
        for number, first in enumerate(range(0, batch, group)):
            part = slice(first, first + group)
            xb = x[part].to(w.f)
            _backward_group(
                w, grads, rows, xb, d_out[part], dx[part], None if scale is None else scale[part], cuts,
                kept[number * len(cuts) : (number + 1) * len(cuts)], None if d_scale is None else d_scale[part],
            )  # fmt: skip
        return (dx, d_scale, *grads.finish(norm, w_in, gate, w_out, a_log, conv_w), None)


class _Gradients:
    """Running sums of the parameters' gradients, for the folded weights."""

    def __init__(self, w: _Weights):
        def zeros(t: Tensor) -> Tensor:
            return torch.zeros_like(t, dtype=w.f)

        self.w_in, self.w_out, self.taps = zeros(w.w_in), zeros(w.w_out), zeros(w.taps)
        self.conv_b, self.dt_bias, self.A, self.D = zeros(w.conv_b), zeros(w.dt_bias), zeros(w.A), zeros(w.D)

    def add_product(self, name: str, left: Tensor, right: Tensor, compute: torch.dtype) -> None:
        """self.name += left^T right."""
        total = getattr(self, name)
        if compute == total.dtype:
            total.addmm_(left.t(), right)
        else:
            total += torch.mm(left.to(compute).t(), right.to(compute))

    def finish(self, norm, w_in, gate, w_out, a_log, conv_w):
        """Gradients in the order of the parameters, unfolded."""
        return (
            (self.w_in * w_in).sum(0).to(norm.dtype),
            (self.w_in * norm).to(w_in.dtype),
            self.taps.t()[:, None].to(conv_w.dtype),
            self.conv_b.to(conv_w.dtype),
            self.dt_bias.to(a_log.dtype),
            (self.A * -torch.exp(a_log.to(self.A.dtype))).to(a_log.dtype),
            self.D.to(a_log.dtype),
            (self.w_out * w_out).sum(0).to(gate.dtype),
            (self.w_out * gate).to(w_out.dtype),
        )


def _backward_group(w: _Weights, grads: _Gradients, rows: _Rows, x, d_out, dx, scale, cuts, kept, d_scale) -> None:
    """Adds one group's gradients to `grads` and `dx`. x, d_out, dx: [B, N + 1, D] views of the group."""
    spec, f, inner, n, k = w.spec, w.f, w.inner, w.state, w.taps.shape[0]
    b, rows_x, width = x.shape
    head = _heading(x, spec.eps, 4096)
    d_state, future, d_head = None, None, None
    for index in reversed(range(len(cuts))):
        start, count, q = cuts[index]
        stop, halo, length = start + count * q, min(start, k - 1), count * q
        unit, factor_x = _unit_tile(head, x, rows, start, stop, halo, spec.eps)
        tile = _Tile(w, unit, halo, q, kept[index])
        g, factor, _ = tile.gated(w, False)

        drop = int(start == 0)
        dy = rows.read(d_out, start + drop, stop).to(f)
        dy = F.pad(dy, (0, 0, 1, 0)) if drop else dy
        if d_scale is not None:
            y = torch.mm(g.to(spec.compute), w.w_out.t()).to(f).mul_(factor).view(b, length, width)
            d_scale += (y * dy).sum((1, 2), keepdim=True).to(d_scale.dtype)
        dy = (dy if scale is None else dy * scale).reshape(b * length, width) * factor
        grads.add_product("w_out", dy, g, spec.compute)
        dg = torch.mm(dy.to(spec.compute), w.w_out).to(f)
        d_zx = torch.empty(b, length, 2 * inner + 2 * n + w.heads, dtype=f, device=x.device)
        d_z, d_xbc, d_raw = d_zx.split([inner, inner + 2 * n, w.heads], -1)
        d_y = w.ops.gate_backward(dg, tile.y, tile.z, g, factor, d_z)
        d_act = torch.empty(d_xbc.shape, dtype=f, device=x.device)
        d_y = d_y.unflatten(-1, (w.heads, spec.headdim))
        sdt, sa, sd, d_state = tile.scan.backward(d_y, d_state, start > 0, d_act)
        grads.A += sa
        grads.D += sd
        torch.mul(sdt, torch.sigmoid(tile.raw), out=d_raw)
        grads.dt_bias += d_raw.sum((0, 1))
        future = w.ops.conv_backward(
            d_act, tile.pre, tile.xbc, halo, w.taps, future, d_xbc, grads.taps, grads.conv_b
        )  # fmt: skip

        flat = d_zx.view(b * length, -1)
        own = tile.unit.view(b, halo + length, width)[:, halo:].reshape(b * length, width)
        grads.add_product("w_in", flat, own, spec.compute)
        d_unit = torch.mm(flat.to(spec.compute), w.w_in).to(f).view(b, length, width)
        if drop:
            d_head = d_unit[:, :1]
        body = unit[:, halo + drop :]
        if len(cuts) == 1:
            d_unit = d_unit[:, 1:] + d_head / rows_x
        else:
            d_unit = d_unit[:, drop:]
        rows.add(dx, start + drop, stop, norm_backward(d_unit, body, factor_x[:, -body.shape[1] :]).to(dx.dtype))
    if len(cuts) > 1 and d_head is not None:
        share = d_head / rows_x
        for first in range(0, rows_x, 4096):  # the heading average's part of every row
            piece = x[:, first : first + 4096]
            factor_x = row_factor(piece, spec.eps)
            unit = piece * factor_x
            dx[:, first : first + 4096] += norm_backward(share.expand_as(unit), unit, factor_x).to(dx.dtype)
