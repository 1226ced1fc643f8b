"""The SSD recurrence step by step: slow, plain, the oracle of every other backend.

B batch, L sequence, H heads, P head width, N state width.
    h_t = exp(dt_t A) h_{t-1} + dt_t x_t B_t^T          y_t = h_t C_t + D x_t
("Transformers are SSMs", section 2; one group of B and C for all heads.)
"""

from __future__ import annotations

import torch
from torch import Tensor


def ssd_step(
    state: Tensor, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One step of the recurrence.

    Args:
        state: [B, H, P, N], float32 or float64.
        x: [B, H, P].
        dt: [B, H], after softplus.
        A: [H], negative.
        B, C: [B, N].
        D: [H] or None.

    Returns:
        y [B, H, P] in the dtype of x, and the new state [B, H, P, N].
    """
    f = state.dtype
    decay = torch.exp(dt.to(f) * A.to(f))[..., None, None]
    outer = (dt.to(f)[..., None] * x.to(f))[..., None] * B.to(f)[:, None, None, :]
    state = decay * state + outer
    y = (state * C.to(f)[:, None, None, :]).sum(-1)
    if D is not None:
        y = y + D.to(f)[:, None] * x.to(f)
    return y.to(x.dtype), state


def ssd_reference(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, initial_state: Tensor | None
) -> tuple[Tensor, Tensor]:
    """`ssd` one token after the other; see `patchscale.mixers.ssd` for shapes."""
    batch, length, heads, width = x.shape
    f = torch.promote_types(x.dtype, torch.float32)
    state = x.new_zeros(batch, heads, width, B.shape[-1], dtype=f) if initial_state is None else initial_state.to(f)
    rows = []
    # unbind: indexing x[:, t] under autograd would cost a full-size gradient per step
    for x_t, dt_t, b_t, c_t in zip(x.unbind(1), dt.unbind(1), B.unbind(1), C.unbind(1), strict=True):
        y, state = ssd_step(state, x_t, dt_t, A, b_t, c_t, D)
        rows.append(y)
    y = torch.stack(rows, dim=1) if length else x.new_zeros(x.shape)
    return y, state
