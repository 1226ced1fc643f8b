"""The SSD in chunks written plainly, for tracing: no custom backward, no decision that depends on values.

Used under torch.export and torch.compile (and by benchmarks as the form to beat). Shapes as in `chunked`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ssd_plain(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None, initial_state: Tensor | None, chunk: int
) -> tuple[Tensor, Tensor]:
    """`ssd` with pairwise decays per chunk ("Transformers are SSMs", listing 1), under ordinary autograd."""
    f = torch.promote_types(x.dtype, torch.float32)
    batch, _, heads, width = x.shape
    state = x.new_zeros(batch, heads, width, B.shape[-1], dtype=f) if initial_state is None else initial_state.to(f)
    out = []
    parts = [t.split(chunk, dim=1) for t in (x, dt.to(f), B, C)]
    for x_c, dt_c, b_c, c_c in zip(*parts, strict=True):
        cum = (dt_c * A.to(f)).cumsum(1).transpose(1, 2)  # [B, H, Q]
        gap = cum[..., :, None] - cum[..., None, :]
        lower = torch.ones(gap.shape[-2:], dtype=torch.bool, device=x.device).tril()
        decay = torch.exp(gap.masked_fill(~lower, float("-inf")))
        xdt = (x_c.to(f) * dt_c[..., None]).transpose(1, 2)  # [B, H, Q, P]
        scores = torch.matmul(c_c, b_c.transpose(1, 2)).to(f)[:, None]
        y = torch.matmul((scores * decay).to(x.dtype), xdt.to(x.dtype))
        read = torch.matmul(c_c.to(f)[:, None], state.transpose(-1, -2)) * torch.exp(cum)[..., None]
        y = y + read.to(x.dtype)
        tail = torch.exp(cum[..., -1:] - cum)[..., None]
        added = torch.matmul((xdt * tail).transpose(-1, -2), b_c.to(f)[:, None])
        state = state * torch.exp(cum[..., -1])[..., None, None] + added
        out.append(y.transpose(1, 2))
    y = torch.cat(out, dim=1) if out else x
    return (y if D is None else y + x * D.to(x.dtype)[:, None]), state
