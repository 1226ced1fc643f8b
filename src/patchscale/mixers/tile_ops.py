"""What a tile of a lean block does besides matrix products, as torch operations; `native_rows` does the same in C++.

B images, T rows of the tile, C channels of the convolution, E inner width, K taps, M hidden width, R rows.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from patchscale.mixers.chunked import SlabScan, pick_chunk


class TileOps(Protocol):
    """The operations of a tile; `scan` makes a `SlabScan` or what stands for it."""

    scan: Any

    def pick_chunk(self, length: int, device: torch.device) -> int:
        """The chunk length that suits `scan`."""
        ...

    def conv(self, x: Tensor, halo: int, taps: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        """Causal convolution: its output before SiLU and after, [B, T, C], of x [B, halo + T, C], zeros before x."""
        ...

    def conv_backward(
        self, d_act: Tensor, pre: Tensor, x: Tensor, halo: int, taps: Tensor, future: Tensor | None, out: Tensor,
        d_taps: Tensor, d_bias: Tensor,
    ) -> Tensor:  # fmt: skip
        """Writes the gradient of x's last T rows to `out`, adds to d_taps [K, C] and d_bias [C].

        `future`: the gradient of `pre` in the K - 1 rows after the tile, or None. Returns that of its first K - 1 rows.
        """
        ...

    def gate(self, y: Tensor, z: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """g = y * silu(z) as [B * T, E], and 1 / rms(g) as [B * T, 1]; y [B, T, E] contiguous."""
        ...

    def gate_backward(self, dg: Tensor, y: Tensor, z: Tensor, g: Tensor, factor: Tensor, out: Tensor) -> Tensor:
        """Writes the gradient of z to `out`, returns that of y [B, T, E]; dg: gradient of g * factor times factor."""
        ...

    def swiglu(self, h: Tensor) -> Tensor:
        """silu(u) * v for h = [u | v] of [R, 2 M]."""
        ...

    def swiglu_backward(self, d_act: Tensor, h: Tensor) -> Tensor:
        """Gradient of h, which may be overwritten."""
        ...


def row_factor(x: Tensor, eps: float) -> Tensor:
    """1 / sqrt(mean(x^2) + eps) over the last dimension, kept."""
    return torch.rsqrt(torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps))


class TorchOps:
    """`TileOps` for every device and dtype."""

    scan = SlabScan

    def pick_chunk(self, length: int, device: torch.device) -> int:
        return pick_chunk(length, device)

    def conv(self, x: Tensor, halo: int, taps: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        length, x = x.shape[1] - halo, _with_zeros(x, halo, taps)
        pre = torch.addcmul(bias, x[:, :length], taps[0])
        for k in range(1, len(taps)):
            pre.addcmul_(x[:, k : k + length], taps[k])
        return pre, F.silu(pre)

    def conv_backward(self, d_act, pre, x, halo, taps, future, out, d_taps, d_bias):
        before, length, x = len(taps) - 1, pre.shape[1], _with_zeros(x, halo, taps)
        d_pre = torch.ops.aten.silu_backward(d_act, pre)
        d_bias += d_pre.sum((0, 1))
        for k in range(before + 1):
            d_taps[k] += (d_pre * x[:, k : k + length]).sum((0, 1))
        d_pre = F.pad(d_pre, (0, 0, 0, before)) if future is None else torch.cat([d_pre, future], 1)
        torch.mul(d_pre[:, :length], taps[before], out=out)
        for k in range(1, before + 1):
            out.addcmul_(d_pre[:, k : k + length], taps[before - k])
        return d_pre[:, :before]

    def gate(self, y: Tensor, z: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        g = (y * F.silu(z)).flatten(0, 1)
        return g, row_factor(g, eps)

    def gate_backward(self, dg, y, z, g, factor, out):
        inner = (g * dg).mean(-1, keepdim=True).mul_(factor.square())
        dg = dg.addcmul_(g, inner, value=-1).view(y.shape)
        out.copy_(torch.ops.aten.silu_backward(dg * y, z))
        return dg.mul_(F.silu(z))

    def swiglu(self, h: Tensor) -> Tensor:
        u, v = h.chunk(2, -1)
        return F.silu(u).mul_(v)

    def swiglu_backward(self, d_act: Tensor, h: Tensor) -> Tensor:
        (u, v), dh = h.chunk(2, -1), torch.empty_like(h)
        width = u.shape[-1]
        dh[:, :width] = torch.ops.aten.silu_backward(d_act * v, u)
        torch.mul(d_act, F.silu(u), out=dh[:, width:])
        return dh


def _with_zeros(x: Tensor, halo: int, taps: Tensor) -> Tensor:
    """x with K - 1 rows before the tile, zeros where x has none."""
    missing = len(taps) - 1 - halo
    return F.pad(x, (0, 0, missing, 0)) if missing > 0 else x


def tile_ops(backend: str, dtype: torch.dtype) -> TileOps:
    """The operations for the SSD backend `native` or `torch`; the C++ ones take float32 and float64 only."""
    if backend == "native" and dtype in (torch.float32, torch.float64):
        from patchscale.mixers.native_rows import NativeOps

        return NativeOps()
    return TorchOps()
