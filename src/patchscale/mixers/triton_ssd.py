"""The SSD by our Triton kernels (backend `triton`): NVIDIA GPUs, or the interpreter with TRITON_INTERPRET=1.

Keeps the inputs alone; states per chunk are recomputed in the backward pass. Shapes as in `patchscale.mixers.ssd`.
"""

# pyright: reportArgumentType=false
# (triton annotates compile-time arguments as constexpr and takes plain values)

from __future__ import annotations

import torch
import triton
from torch import Tensor

from patchscale.mixers import triton_kernels as kernels

CHUNK = 64


def _block(size: int) -> int:
    return max(16, triton.next_power_of_2(size))


def _rows(t: Tensor) -> Tensor:
    """Channels must be adjacent; positions and heads may have any stride."""
    return t if t.stride(-1) == 1 else t.contiguous()


class _Plan:
    """Sizes and launch arguments shared by the kernels of one call."""

    def __init__(self, x: Tensor, B: Tensor, chunk: int):
        self.batch, self.length, self.heads, self.width = x.shape
        self.state, self.q = B.shape[-1], _block(min(chunk, 128))
        self.chunks = -(-self.length // self.q)
        self.sizes = (self.length, self.heads, self.chunks, self.width, self.state)
        precise = x.dtype == torch.float32 and not torch.backends.cuda.matmul.allow_tf32
        self.meta = {
            "Q": self.q,
            "BP": _block(self.width),
            "BN": _block(self.state),
            "PRECISION": "ieee" if precise else "tf32",
            "num_warps": 8,
        }

    def states(self, x, dt, A, B, first: Tensor | None, reverse: bool) -> tuple[Tensor, Tensor]:
        """State before each chunk (gradient of the state after it when `reverse`) and what leaves the last one."""
        full = (self.batch, self.chunks, self.heads, self.width, self.state)
        states = torch.empty(full, dtype=torch.float32, device=x.device)
        totals = torch.empty(full[:3], dtype=torch.float32, device=x.device)
        last = torch.empty((self.batch, *full[2:]), dtype=torch.float32, device=x.device)
        grid = (self.batch * self.chunks, self.heads)
        kernels.chunk_states[grid](
            x, dt, A, B, states, totals, *self.sizes, *x.stride()[:3], *B.stride()[:2], READ=reverse, **self.meta
        )
        size, block = self.width * self.state, 256
        kernels.pass_states[(self.batch * self.heads, triton.cdiv(size, block))](
            states, totals, last if first is None else first, last, self.heads, self.chunks, size,
            REVERSE=reverse, HAS_FIRST=first is not None, BLOCK=block,
        )  # fmt: skip
        return states, last


class TritonSSD(torch.autograd.Function):
    """`ssd` by Triton kernels; float32 and bfloat16."""

    @staticmethod
    def forward(ctx, x, dt, A, B, C, D, initial_state, chunk: int):
        xr, dt_f, a_f, br, cr = _rows(x), dt.float().contiguous(), A.float().contiguous(), _rows(B), _rows(C)
        plan = _Plan(x, B, chunk)
        first = None if initial_state is None else initial_state.float().contiguous()
        states, last = plan.states(xr, dt_f, a_f, br, first, reverse=False)
        y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        d = a_f if D is None else D.float().contiguous()
        kernels.chunk_outputs[(plan.batch * plan.chunks, plan.heads)](
            xr, dt_f, a_f, br, cr, d, states, y, *plan.sizes, *xr.stride()[:3], *br.stride()[:2], *cr.stride()[:2],
            HAS_D=D is not None, **plan.meta,
        )  # fmt: skip
        ctx.save_for_backward(x, dt, A, B, C, D, initial_state)
        ctx.chunk = chunk
        return y, last

    @staticmethod
    def backward(ctx, dy, d_last):
        x, dt, A, B, C, D, initial_state = ctx.saved_tensors
        xr, dt_f, a_f, br, cr = _rows(x), dt.float().contiguous(), A.float().contiguous(), _rows(B), _rows(C)
        dyr = _rows(dy.to(x.dtype))
        plan = _Plan(x, B, ctx.chunk)
        first = None if initial_state is None else initial_state.float().contiguous()
        starts, _ = plan.states(xr, dt_f, a_f, br, first, reverse=False)
        d_last = None if d_last is None else d_last.float().contiguous()
        ends, d_first = plan.states(dyr, dt_f, a_f, cr, d_last, reverse=True)
        dx = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        ddt = torch.empty_like(dt_f)
        db, dc = (
            torch.empty(B.shape, dtype=B.dtype, device=x.device),
            torch.empty(C.shape, dtype=C.dtype, device=x.device),
        )
        part = (plan.batch * plan.chunks, plan.heads)
        da, dd = (torch.empty(part, dtype=torch.float32, device=x.device) for _ in range(2))
        d = a_f if D is None else D.float().contiguous()
        kernels.chunk_gradients[(plan.batch * plan.chunks,)](
            xr, dt_f, a_f, br, cr, d, starts, ends, dyr, dx, ddt, da, db, dc, dd, *plan.sizes,
            *xr.stride()[:3], *br.stride()[:2], *cr.stride()[:2], *dyr.stride()[:3], HAS_D=D is not None, **plan.meta,
        )  # fmt: skip
        d_initial = None if initial_state is None else d_first.to(initial_state.dtype)
        d_d = None if D is None else dd.sum(0).to(D.dtype)
        return dx, ddt.to(dt.dtype), da.sum(0).to(A.dtype), db, dc, d_d, d_initial, None
