"""Triton kernels of the SSD: states per chunk, passing them along, outputs, and the backward pass of a chunk.

B batch, L sequence, H heads, P head width, N state width, Q chunk, NC chunks; BP, BN: P and N rounded up to a power of
two. Decays are taken pairwise, exp(c_i - c_j) for i >= j, which never overflows. Offsets are 64-bit. One program works
on one chunk; heads are a grid axis forward and a loop backward, where dB and dC are sums over heads.
"""

# pyright: reportOperatorIssue=false
# (inside a kernel, triton gives the operators their meaning)

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _log_decay(dt_ptr, a_ptr, row, h, pos, length, heads):
    """dt [Q], running sum of dt A, and its total; zero beyond the sequence."""
    dt = tl.load(dt_ptr + (row * length + pos) * heads + h, mask=pos < length, other=0.0)
    log = dt * tl.load(a_ptr + h)
    return dt, tl.cumsum(log, 0), tl.sum(log, 0)


@triton.jit
def _tile(ptr, row, h, pos, cols, length, width, s_row, s_pos, s_head):
    """[Q, C] of a [B, L, H, C] tensor (s_head 0: [B, L, C]), zero outside."""
    at = row * s_row + pos.to(tl.int64)[:, None] * s_pos + h * s_head + cols[None, :]
    return tl.load(ptr + at, mask=(pos[:, None] < length) & (cols[None, :] < width), other=0.0)


@triton.jit
def chunk_states(
    x_ptr, dt_ptr, a_ptr, b_ptr, states_ptr, totals_ptr, length, heads, chunks, width, state,
    xs0, xs1, xs2, bs0, bs1,
    READ: tl.constexpr, Q: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """sum_j w_j x_j b_j^T [P, N] per chunk and head; w_j = exp(c_Q - c_j) dt_j, or exp(c_j) when READ."""
    pid, h = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    row, chunk = pid // chunks, pid % chunks
    pos = chunk * Q + tl.arange(0, Q)
    p, n = tl.arange(0, BP), tl.arange(0, BN)
    dt, cum, total = _log_decay(dt_ptr, a_ptr, row, h, pos, length, heads)
    x = _tile(x_ptr, row, h, pos, p, length, width, xs0, xs1, xs2)
    b = _tile(b_ptr, row, 0, pos, n, length, state, bs0, bs1, 0)
    weight = tl.exp(cum) if READ else tl.exp(total - cum) * dt
    out = tl.dot(tl.trans((x * weight[:, None]).to(x.dtype)), b, input_precision=PRECISION)
    at = ((pid * heads + h) * width + p[:, None]) * state + n[None, :]
    tl.store(states_ptr + at, out, mask=(p[:, None] < width) & (n[None, :] < state))
    tl.store(totals_ptr + pid * heads + h, total)


@triton.jit
def pass_states(
    states_ptr, totals_ptr, first_ptr, last_ptr, heads, chunks, size,
    REVERSE: tl.constexpr, HAS_FIRST: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Replaces each chunk's contribution by the state before it (after it, when REVERSE); writes the last state."""
    pid = tl.program_id(0).to(tl.int64)
    row, h = pid // heads, pid % heads
    at = tl.program_id(1).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = at < size
    state = tl.zeros((BLOCK,), dtype=tl.float32)
    if HAS_FIRST:
        state = tl.load(first_ptr + pid * size + at, mask=mask, other=0.0)
    for step in range(chunks):
        chunk = chunks - 1 - step if REVERSE else step
        here = (row * chunks + chunk) * heads + h
        added = tl.load(states_ptr + here * size + at, mask=mask, other=0.0)
        tl.store(states_ptr + here * size + at, state, mask=mask)
        state = tl.exp(tl.load(totals_ptr + here)) * state + added
    tl.store(last_ptr + pid * size + at, state, mask=mask)


@triton.jit
def chunk_outputs(
    x_ptr, dt_ptr, a_ptr, b_ptr, c_ptr, d_ptr, states_ptr, y_ptr, length, heads, chunks, width, state,
    xs0, xs1, xs2, bs0, bs1, cs0, cs1,
    HAS_D: tl.constexpr, Q: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """y = (C B^T * decay) (dt x) + exp(c) C h^T + D x for one chunk and head."""
    pid, h = tl.program_id(0).to(tl.int64), tl.program_id(1).to(tl.int64)
    row, chunk = pid // chunks, pid % chunks
    q = tl.arange(0, Q)
    pos = chunk * Q + q
    p, n = tl.arange(0, BP), tl.arange(0, BN)
    dt, cum, _ = _log_decay(dt_ptr, a_ptr, row, h, pos, length, heads)
    x = _tile(x_ptr, row, h, pos, p, length, width, xs0, xs1, xs2)
    b = _tile(b_ptr, row, 0, pos, n, length, state, bs0, bs1, 0)
    c = _tile(c_ptr, row, 0, pos, n, length, state, cs0, cs1, 0)
    at = ((pid * heads + h) * width + p[:, None]) * state + n[None, :]
    start = tl.load(states_ptr + at, mask=(p[:, None] < width) & (n[None, :] < state), other=0.0)
    scores = tl.dot(c, tl.trans(b), input_precision=PRECISION)
    decay = tl.where(q[:, None] >= q[None, :], tl.exp(cum[:, None] - cum[None, :]), 0.0)
    y = tl.dot((scores * decay * dt[None, :]).to(x.dtype), x, input_precision=PRECISION)
    y += tl.dot(c, tl.trans(start).to(c.dtype), input_precision=PRECISION) * tl.exp(cum)[:, None]
    if HAS_D:
        y += x.to(tl.float32) * tl.load(d_ptr + h)
    out = ((row * length + pos[:, None]) * heads + h) * width + p[None, :]
    tl.store(y_ptr + out, y.to(y_ptr.dtype.element_ty), mask=(pos[:, None] < length) & (p[None, :] < width))


@triton.jit
def chunk_gradients(
    x_ptr, dt_ptr, a_ptr, b_ptr, c_ptr, d_ptr, starts_ptr, ends_ptr, dy_ptr,
    dx_ptr, ddt_ptr, da_ptr, db_ptr, dc_ptr, dd_ptr, length, heads, chunks, width, state,
    xs0, xs1, xs2, bs0, bs1, cs0, cs1, ys0, ys1, ys2,
    HAS_D: tl.constexpr, Q: tl.constexpr, BP: tl.constexpr, BN: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """All gradients of one chunk; `starts` holds the state before it, `ends` the gradient of the state after it."""
    pid = tl.program_id(0).to(tl.int64)
    row, chunk = pid // chunks, pid % chunks
    q = tl.arange(0, Q)
    pos = chunk * Q + q
    p, n = tl.arange(0, BP), tl.arange(0, BN)
    inside = (p[:, None] < width) & (n[None, :] < state)
    b = _tile(b_ptr, row, 0, pos, n, length, state, bs0, bs1, 0)
    c = _tile(c_ptr, row, 0, pos, n, length, state, cs0, cs1, 0)
    scores = tl.dot(c, tl.trans(b), input_precision=PRECISION)
    d_scores = tl.zeros((Q, Q), dtype=tl.float32)
    db = tl.zeros((Q, BN), dtype=tl.float32)
    dc = tl.zeros((Q, BN), dtype=tl.float32)
    for head in range(heads):
        h = tl.cast(head, tl.int64)
        dt, cum, total = _log_decay(dt_ptr, a_ptr, row, h, pos, length, heads)
        x = _tile(x_ptr, row, h, pos, p, length, width, xs0, xs1, xs2)
        dy = _tile(dy_ptr, row, h, pos, p, length, width, ys0, ys1, ys2)
        at = ((pid * heads + h) * width + p[:, None]) * state + n[None, :]
        start = tl.load(starts_ptr + at, mask=inside, other=0.0)
        end = tl.load(ends_ptr + at, mask=inside, other=0.0)
        decay = tl.where(q[:, None] >= q[None, :], tl.exp(cum[:, None] - cum[None, :]), 0.0)
        mix = scores * decay
        d_mix = tl.dot(dy, tl.trans(x), input_precision=PRECISION) * dt[None, :]
        d_scores += d_mix * decay
        pairs = tl.where(q[:, None] > q[None, :], d_mix * mix, 0.0)  # the diagonal cancels exactly
        tail, grown = tl.exp(total - cum), tl.exp(cum)
        to_state = tl.dot(b, tl.trans(end).to(b.dtype), input_precision=PRECISION) * tail[:, None]
        from_state = tl.dot(c, tl.trans(start).to(c.dtype), input_precision=PRECISION) * grown[:, None]
        d_in = tl.dot(tl.trans(mix).to(dy.dtype), dy, input_precision=PRECISION) + to_state
        xf, dyf = x.to(tl.float32), dy.to(tl.float32)
        written = dt * tl.sum(xf * to_state, 1)
        d_cum = tl.sum(pairs, 1) - tl.sum(pairs, 0) + tl.sum(dyf * from_state, 1) - written
        d_total = tl.exp(total) * tl.sum(tl.sum(start * end, 1), 0) + tl.sum(written, 0)
        d_log = tl.cumsum(d_cum, 0, reverse=True) + d_total
        dc += tl.dot(dy, start.to(dy.dtype), input_precision=PRECISION) * grown[:, None]
        db += tl.dot(x, end.to(x.dtype), input_precision=PRECISION) * (tail * dt)[:, None]
        ddt = tl.sum(xf * d_in, 1) + d_log * tl.load(a_ptr + h)
        dx = d_in * dt[:, None]
        if HAS_D:
            dx += dyf * tl.load(d_ptr + h)
        out = ((row * length + pos[:, None]) * heads + h) * width + p[None, :]
        tl.store(dx_ptr + out, dx.to(dx_ptr.dtype.element_ty), mask=(pos[:, None] < length) & (p[None, :] < width))
        tl.store(ddt_ptr + (row * length + pos) * heads + h, ddt, mask=pos < length)
        tl.store(da_ptr + pid * heads + h, tl.sum(d_log * dt, 0))
        tl.store(dd_ptr + pid * heads + h, tl.sum(tl.sum(dyf * xf, 1), 0))
    d_scores = d_scores.to(b.dtype)
    dc += tl.dot(d_scores, b, input_precision=PRECISION)
    db += tl.dot(tl.trans(d_scores), c, input_precision=PRECISION)
    at = (row * length + pos[:, None]) * state + n[None, :]
    keep = (pos[:, None] < length) & (n[None, :] < state)
    tl.store(db_ptr + at, db.to(db_ptr.dtype.element_ty), mask=keep)
    tl.store(dc_ptr + at, dc.to(dc_ptr.dtype.element_ty), mask=keep)
