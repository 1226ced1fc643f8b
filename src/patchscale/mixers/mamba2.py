"""The Mamba-2 mixer of the Adventurer, causal, one group ("Transformers are SSMs", section 7).

D width, E = expand * D inner width, H = E / headdim heads, N state width, K convolution taps.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchscale.errors import InputError
from patchscale.mixers.backends import BACKENDS
from patchscale.mixers.conv import causal_conv_silu
from patchscale.mixers.norms import RMSNorm, gated_rms_norm
from patchscale.mixers.reference import ssd_step
from patchscale.mixers.ssd import ssd


class MixerState(NamedTuple):
    """What a mixer remembers of the rows it has read: its size does not depend on their number.

    Attributes:
        rows: [B, K - 1, E + 2 N], the convolution's last inputs.
        ssm: [B, H, P, N], the SSD's state, float32 (float64 for float64 weights).
    """

    rows: Tensor
    ssm: Tensor


class Mamba2(nn.Module):
    """Mamba-2 with the state-dict names of the released weights.

    Args:
        dim: width D; `expand * dim` must be a multiple of `headdim`.
        d_state, d_conv, expand, headdim: N, K, E / D and P.
        chunk_size, backend: passed to `ssd`.

    Raises:
        InputError: the inner width is not a multiple of the head width, or an unknown backend.
    """

    def __init__(
        self,
        dim: int,
        *,
        d_state: int = 64,
        d_conv: int = 4,
        expand: int = 2,
        headdim: int = 64,
        chunk_size: int | None = None,
        backend: str = "auto",
        device=None,
        dtype=None,
    ):
        super().__init__()
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        inner = expand * dim
        if inner % headdim:
            raise InputError(
                f"embed_dim {dim} gives an inner width of {inner}, not a multiple of headdim {headdim}; "
                f"use a multiple of {headdim // math.gcd(expand, headdim)}"
            )
        if backend != "auto" and backend not in BACKENDS:
            raise InputError(f"unknown SSD backend {backend!r}; use auto or one of {', '.join(BACKENDS)}")
        self.dim, self.d_inner, self.d_state, self.headdim = dim, inner, d_state, headdim
        self.num_heads = heads = inner // headdim
        self.chunk_size, self.backend = chunk_size, backend
        channels = inner + 2 * d_state
        self.in_proj = nn.Linear(dim, inner + channels + heads, bias=False, **dd)
        self.conv1d = nn.Conv1d(channels, channels, d_conv, groups=channels, **dd)
        self.dt_bias = nn.Parameter(torch.empty(heads, **dd))
        self.A_log = nn.Parameter(torch.empty(heads, **dd))
        self.D = nn.Parameter(torch.ones(heads, **dd))
        self.norm = RMSNorm(inner, **dd)
        self.out_proj = nn.Linear(inner, dim, bias=False, **dd)
        self.init_dynamics()

    @torch.no_grad()
    def init_dynamics(self) -> None:
        """A uniform in [1, 16]; dt log-uniform in [1e-3, 0.1], floor 1e-4, through the inverse softplus; D = 1."""
        if self.A_log.is_meta:
            return
        self.A_log.uniform_(1, 16).log_()
        dt = torch.empty_like(self.dt_bias).uniform_(math.log(1e-3), math.log(0.1)).exp_().clamp_(min=1e-4)
        self.dt_bias.copy_(dt + torch.log(-torch.expm1(-dt)))
        self.D.fill_(1)

    def _projected(self, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """z, the convolution's input, and dt after softplus."""
        inner = self.d_inner
        z, xbc, dt = self.in_proj(u).split([inner, inner + 2 * self.d_state, self.num_heads], dim=-1)
        f = torch.promote_types(xbc.dtype, torch.float32)
        return z, xbc, F.softplus(dt.to(f) + self.dt_bias.to(f))

    def start(self, batch: int) -> MixerState:
        """The state before the first row: zeros."""
        weight = self.in_proj.weight
        f = torch.promote_types(weight.dtype, torch.float32)
        rows = weight.new_zeros(batch, self.conv1d.weight.shape[-1] - 1, self.conv1d.weight.shape[0])
        return MixerState(rows, weight.new_zeros(batch, self.num_heads, self.headdim, self.d_state, dtype=f))

    def step(self, u: Tensor, state: MixerState) -> tuple[Tensor, MixerState]:
        """One row after the others: [B, D] -> [B, D] and the new state; rows in turn equal `forward` of them all."""
        inner, n = self.d_inner, self.d_state
        z, xbc, dt = self._projected(u[:, None])
        active = causal_conv_silu(xbc, self.conv1d.weight, self.conv1d.bias, past=state.rows)[:, 0]
        x, b, c = active.split([inner, n, n], dim=-1)
        x, a = x.unflatten(-1, (self.num_heads, self.headdim)), -torch.exp(self.A_log.to(dt.dtype))
        y, ssm = ssd_step(state.ssm, x, dt[:, 0], a, b, c, self.D)
        y = self.out_proj(gated_rms_norm(y.flatten(-2), z[:, 0], self.norm.weight, self.norm.eps))
        return y, MixerState(torch.cat([state.rows, xbc.to(state.rows.dtype)], 1)[:, 1:], ssm)

    def forward(self, u: Tensor) -> Tensor:
        """[B, L, D] -> [B, L, D]."""
        inner, n = self.d_inner, self.d_state
        z, xbc, dt = self._projected(u)
        x, b, c = causal_conv_silu(xbc, self.conv1d.weight, self.conv1d.bias).split([inner, n, n], dim=-1)
        y: Any = ssd(
            x.unflatten(-1, (self.num_heads, self.headdim)),
            dt,
            -torch.exp(self.A_log.to(dt.dtype)),
            b,
            c,
            self.D,
            chunk_size=self.chunk_size,
            backend=self.backend,
        )
        return self.out_proj(gated_rms_norm(y.flatten(-2), z, self.norm.weight, self.norm.eps))
