"""The SSD in chunks of matrix products, with its own backward pass (backend `torch`: CPU, GPU, MPS).

B batch, L sequence, H heads, P head width, N state width, Q chunk, G chunks handled together (a slab).

Within a chunk, with c_i the running sum of dt A (inclusive) and m half of its total,
    y_i = exp(c_i - m) [ sum_{j<i} (C_i . B_j) xs_j + exp(m) h C_i ] + (dt_i C_i . B_i + D) x_i,
    xs_j = exp(m - c_j) dt_j x_j,                    h' = exp(c_Q) h + exp(c_Q - m) sum_j xs_j B_j^T.
Because all heads share B and C, the decays are row and column factors and every product is one large matrix product
over [Q, H*P]; no per-head [Q, Q] matrix is ever made. The factors stay in range while |c_Q| <= `RANGE`; slabs beyond
it are computed with the decays taken pairwise, which is exact for any range and slower.

The backward pass keeps the inputs and one state per slab and recomputes the rest. The gradient of the log-decay uses,
per position, u_i = dy_i . (y_i's sum over j < i and h) and v_j = dt_j x_j . (its gradient from i > j and h'):
dc_i = u_i - v_i, plus <dh', h'> at the end of the chunk. The diagonal, which cancels in u - v, is left out of both:
with fast decay it is nearly all of y, and float32 would keep little of the difference.
("Transformers are SSMs", section 6; the factored form as in "Gated Linear Attention", section 4.)
"""

from __future__ import annotations

import torch
from torch import Tensor

RANGE = {torch.float32: 110.0, torch.float64: 900.0}
CPU_SLAB_BYTES = 1 << 19
GPU_SLAB_BYTES = 1 << 28


def pick_chunk(length: int, device: torch.device) -> int:
    """The chunk used when none is asked for: near-equal chunks, short on a CPU, long elsewhere."""
    largest = (96 if length <= 96 else 64) if device.type == "cpu" else 128
    return equal_chunk(length, -(-length // largest))


def equal_chunk(length: int, chunks: int) -> int:
    """The chunk length that cuts a sequence into so many near-equal chunks: a short last one costs as many calls."""
    return -(-length // max(1, chunks))


def slab_chunks(chunk_bytes: int, device: torch.device) -> int:
    """How many chunks to handle together."""
    budget = CPU_SLAB_BYTES if device.type == "cpu" else GPU_SLAB_BYTES
    return max(1, budget // max(1, chunk_bytes))


def slabs(length: int, chunk: int, group: int) -> list[tuple[int, int, int]]:
    """Cuts a sequence into (start, chunks, chunk length): whole chunks in groups, then a shorter last chunk."""
    whole, rest = divmod(length, chunk)
    cuts = [(start * chunk, min(group, whole - start), chunk) for start in range(0, whole, group)]
    if rest:
        cuts.append((whole * chunk, 1, rest))
    return cuts


class Slab:
    """Chunk-local quantities of one slab, made in both passes.

    x [B, G, Q, H, P]; dt [B, G, Q, H] float; A [H] float; b, c [B, G, Q, N].
    """

    def __init__(self, x: Tensor, dt: Tensor, A: Tensor, b: Tensor, c: Tensor):
        self.x, self.dt, self.A, self.b, self.c = x, dt, A, b, c
        self.cum = (dt * A).cumsum(2)
        self.total = self.cum[:, :, -1]
        # the total is never positive; anything else (also NaN) goes to the pairwise form, which cannot overflow
        self.factored = self.total.numel() == 0 or self.total.amin().item() >= -RANGE[dt.dtype]
        self.half = self.total / 2 if self.factored else torch.zeros_like(self.total)
        top = self.half if self.factored else self.total
        self.scores = torch.matmul(c, b.transpose(-1, -2)).tril_(-1)  # [B, G, Q, Q], shared by the heads
        self.diagonal = (c * b).sum(-1, keepdim=True, dtype=dt.dtype)  # [B, G, Q, 1]
        self.row = torch.exp(self.cum - self.half[:, :, None])  # [B, G, Q, H]
        self.col = torch.exp(top[:, :, None] - self.cum)
        self.end = torch.exp(self.total - top)  # [B, G, H]
        self.xs = self.scaled(dt * self.col).flatten(-2)  # [B, G, Q, H*P]

    def scaled(self, factor: Tensor) -> Tensor:
        """x times a factor [B, G, Q, H]."""
        return self.x * factor.to(self.x.dtype)[..., None]

    def pairwise(self) -> Tensor:
        """exp(c_i - c_j) for i >= j, [B, G, H, Q, Q]; what lies above the diagonal is masked by `scores`."""
        cum = self.cum.transpose(-1, -2)
        return (cum[..., :, None] - cum[..., None, :]).clamp_(max=0).exp_()

    def states(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """States at the start of each chunk [B, G, H, P, N], and at the end of the slab [B, H, P, N]."""
        b, g, _, h, p = self.x.shape
        added = torch.matmul(self.xs.transpose(-1, -2), self.b).to(state.dtype).view(b, g, h, p, -1)
        added = added * self.end[..., None, None]
        decay = torch.exp(self.total)[..., None, None]
        starts = []
        for i in range(g):
            starts.append(state)
            state = torch.addcmul(added[:, i], decay[:, i], state)
        return torch.stack(starts, 1), state

    def carried(self, starts: Tensor) -> Tensor:
        """exp(m) h as [B, G, H*P, N], the operand of the state's products."""
        return (starts * torch.exp(self.half)[..., None, None]).flatten(2, 3).to(self.x.dtype)

    def mixed(self, starts: Tensor | None) -> Tensor:
        """The part of y from earlier positions and the state, [B, G, Q, H, P], without the factor `row` if factored.

        `starts` is None when no state enters.
        """
        off = None if starts is None else torch.matmul(self.c, self.carried(starts).transpose(-1, -2))
        if self.factored:
            mix = torch.matmul(self.scores, self.xs)
            return (mix if off is None else mix.add_(off)).view(self.x.shape)
        mix = (self.pairwise() * self.scores[:, :, None]).to(self.x.dtype)
        y = torch.matmul(mix, self.scaled(self.dt).transpose(2, 3)).transpose(2, 3)
        return y if off is None else y + off.view(self.x.shape) * self.row.to(self.x.dtype)[..., None]

    def output(self, starts: Tensor | None, D: Tensor | None) -> Tensor:
        """y [B, G, Q, H, P]."""
        own = self.dt * self.diagonal
        own = self.scaled(own if D is None else own + D.to(own.dtype))
        mixed = self.mixed(starts)
        return torch.addcmul(own, mixed, self.row.to(mixed.dtype)[..., None]) if self.factored else own + mixed


def slab_backward(
    slab: Slab, starts: Tensor | None, ends: Tensor | None, d_state: Tensor | None, dy: Tensor, D, want_state: bool
):
    """Gradients of one slab.

    Args:
        slab: the recomputed chunk-local quantities.
        starts, ends: states around each chunk [B, G, H, P, N]; `starts` None when no state enters, `ends` None when
            no gradient comes back through the state.
        d_state: gradient of the slab's last state [B, H, P, N], or None for zero.
        dy: [B, G, Q, H, P].
        want_state: whether the gradient of the slab's first state is needed.

    Returns:
        dx, ddt, dA [H], db, dc, dD [H], gradient of the slab's first state or None.
    """
    x, dt, f = slab.x, slab.dt, slab.dt.dtype
    b_, g, _, h, p = x.shape
    row, col = slab.row.to(x.dtype)[..., None], slab.col.to(x.dtype)[..., None]
    dye = (dy * row).flatten(-2)

    d_end = None  # gradient of the state after each chunk [B, G, H, P, N]
    if want_state or g > 1 or d_state is not None:
        read = torch.matmul(dye.transpose(-1, -2), slab.c).to(f).view(b_, g, h, p, -1)
        read = read * torch.exp(slab.half)[..., None, None]
        d_state = torch.zeros_like(read[:, 0]) if d_state is None else d_state
        decay = torch.exp(slab.total)[..., None, None]
        reverse = []
        for i in reversed(range(g)):
            reverse.append(d_state)
            d_state = torch.addcmul(read[:, i], decay[:, i], d_state)
        d_end = torch.stack(reverse[::-1], 1)

    if slab.factored:
        dxs = torch.matmul(slab.scores.transpose(-1, -2), dye)
        d_scores = torch.matmul(dye, slab.xs.transpose(-1, -2)).tril_(-1)
    else:
        pair, dyh = slab.pairwise(), dy.transpose(2, 3)
        d_mix = torch.matmul(dyh, slab.scaled(dt).permute(0, 1, 3, 4, 2))
        d_scores = (d_mix * pair.to(x.dtype)).sum(2).tril_(-1)
        mix = (pair * slab.scores[:, :, None]).to(x.dtype)
        dxs = None
    dc = torch.matmul(d_scores, slab.b)
    db = torch.matmul(d_scores.transpose(-1, -2), slab.c)
    if d_end is not None:
        written = (d_end * slab.end[..., None, None]).flatten(2, 3).to(x.dtype)  # [B, G, H*P, N]
        back = torch.matmul(slab.b, written.transpose(-1, -2))
        dxs = back if dxs is None else dxs.add_(back)
        db += torch.matmul(slab.xs, written)
    if starts is not None:
        dc += torch.matmul(dye, slab.carried(starts))
    d_in = dxs.view(x.shape) * col if dxs is not None else torch.zeros_like(x)  # gradient of dt x, diagonal left out
    if not slab.factored:
        d_in = d_in + torch.matmul(mix.transpose(-1, -2), dyh).transpose(2, 3)

    mixed = slab.mixed(starts)
    r = (x * d_in).sum(-1, dtype=f)
    u = (mixed.flatten(-2) * dye).view(x.shape).sum(-1, dtype=f) if slab.factored else (mixed * dy).sum(-1, dtype=f)
    skip = (dy * x).sum(-1, dtype=f)
    d_cum = u - dt * r
    if d_end is not None and ends is not None:
        d_cum[:, :, -1] += (d_end * ends).sum((-1, -2))
    d_log = d_cum.flip(2).cumsum(2).flip(2)
    d_diagonal = (skip * dt).sum(-1, keepdim=True).to(x.dtype)
    dc = torch.addcmul(dc, d_diagonal, slab.b)
    db = torch.addcmul(db, d_diagonal, slab.c)
    own = dt * slab.diagonal
    own = own if D is None else own + D.to(f)
    dx = torch.addcmul(dy * own.to(x.dtype)[..., None], d_in, dt.to(x.dtype)[..., None])
    ddt = r + d_log * slab.A + skip * slab.diagonal
    return dx, ddt, (d_log * dt).sum((0, 1, 2)), db, dc, skip.sum((0, 1, 2)), d_state


class SlabScan:
    """The SSD over one slab: chunk-local quantities made once, for the output and for the gradients.

    x [B, G * Q, H, P]; dt [B, G * Q, H] float; A [H] float; B, C [B, G * Q, N]; D [H] or None; `state` [B, H, P, N] is
    the one that enters, None for zeros.
    """

    def __init__(self, x, dt, A, B, C, D, state: Tensor | None, chunk: int):
        x, dt, B, C = (t.unflatten(1, (-1, chunk)) for t in (x, dt, B, C))
        self.slab, self.D, self.state = Slab(x, dt, A, B, C), D, state
        self.starts: Tensor | None = None  # states before each chunk, None while nothing but zeros enters
        self.ends: Tensor | None = None

    def _pass_states(self, needed: bool) -> None:
        b, g, _, h, p = self.slab.x.shape
        if self.ends is None and (needed or self.state is not None or g > 1):
            zeros = self.slab.b.new_zeros(b, h, p, self.slab.b.shape[-1], dtype=self.slab.dt.dtype)
            starts, last = self.slab.states(zeros if self.state is None else self.state)
            self.ends = torch.cat([starts[:, 1:], last[:, None]], 1)
            self.starts = None if self.state is None and g == 1 else starts

    def forward(self, want_last: bool) -> tuple[Tensor, Tensor | None]:
        """y [B, G * Q, H, P], and the state that leaves when it is wanted."""
        self._pass_states(want_last)
        y = self.slab.output(self.starts, self.D).flatten(1, 2)
        return y, self.ends[:, -1] if want_last and self.ends is not None else None

    def backward(self, dy: Tensor, d_last: Tensor | None, want_first: bool, out: Tensor) -> tuple:
        """Writes the gradients of x, B and C side by side to `out` [B, G * Q, H * P + 2 N].

        Returns:
            Gradients of dt, A, D and the state that enters (None unless wanted).
        """
        self._pass_states(d_last is not None)
        dy = dy.unflatten(1, self.slab.x.shape[1:3])
        dx, ddt, da, db, dc, dd, d_first = slab_backward(
            self.slab, self.starts, self.ends, d_last, dy, self.D, want_first
        )
        torch.cat([dx.flatten(-2), db, dc], -1, out=out.unflatten(1, db.shape[1:3]))
        return ddt.flatten(1, 2), da, dd, d_first if want_first else None


def _part(cut: tuple[int, int, int], *tensors: Tensor) -> list[Tensor]:
    start, count, q = cut
    return [t[:, start : start + count * q] for t in tensors]


class ChunkedSSD(torch.autograd.Function):
    """`ssd` in chunks. Saves inputs and one state per slab."""

    @staticmethod
    def forward(ctx, x, dt, A, B, C, D, initial_state, chunk: int, want_final: bool):
        f = torch.promote_types(x.dtype, torch.float32)
        dt_f, a_f = dt.to(f), A.to(f)
        b_, length, h, p = x.shape
        cuts = slabs(length, chunk, slab_chunks(b_ * chunk * h * p * x.element_size(), x.device))
        state = initial_state.to(f) if initial_state is not None else None
        y = x.new_zeros(x.shape) if not cuts else torch.empty_like(x, memory_format=torch.contiguous_format)
        kept: list[Tensor | None] = []
        for k, cut in enumerate(cuts):
            x_c, dt_c, b_c, c_c, y_c = _part(cut, x, dt_f, B, C, y)
            kept.append(state)
            out, state = SlabScan(x_c, dt_c, a_f, b_c, c_c, D, state, cut[2]).forward(want_final or k + 1 < len(cuts))
            y_c.copy_(out)
        if want_final and state is None:
            state = x.new_zeros(b_, h, p, B.shape[-1], dtype=f)
        ctx.save_for_backward(x, dt, A, B, C, D, initial_state, *kept)
        ctx.cuts = cuts
        if not want_final:
            return y, None
        assert state is not None
        return y, state.clone() if state is initial_state else state

    @staticmethod
    def backward(ctx, dy, d_state):
        x, dt, A, B, C, D, initial_state, *kept = ctx.saved_tensors
        f = torch.promote_types(x.dtype, torch.float32)
        dt_f, a_f = dt.to(f), A.to(f)
        inner, n = x.shape[2] * x.shape[3], B.shape[-1]
        joined = x.new_empty(*x.shape[:2], inner + 2 * n)
        ddt = torch.empty_like(dt_f, memory_format=torch.contiguous_format)
        d_a, d_d = torch.zeros_like(a_f), torch.zeros_like(a_f)
        d_state = d_state.to(f) if d_state is not None else None
        for k in reversed(range(len(ctx.cuts))):
            x_c, dt_c, b_c, c_c, dy_c, ddt_c, out = _part(ctx.cuts[k], x, dt_f, B, C, dy, ddt, joined)
            scan = SlabScan(x_c, dt_c, a_f, b_c, c_c, D, kept[k], ctx.cuts[k][2])
            gdt, ga, gd, d_state = scan.backward(dy_c, d_state, k > 0 or initial_state is not None, out)
            ddt_c.copy_(gdt)
            d_a += ga
            d_d += gd
        dx, db, dc = joined.split([inner, n, n], -1)
        d_init = d_state.to(initial_state.dtype) if initial_state is not None and d_state is not None else None
        return (
            dx.view(x.shape),
            ddt.to(dt.dtype),
            d_a.to(A.dtype),
            db,
            dc,
            d_d.to(D.dtype) if D is not None else None,
            d_init,
            None,
            None,
        )
