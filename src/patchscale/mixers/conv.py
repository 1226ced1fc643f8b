"""Causal depthwise convolution over the sequence followed by SiLU, channels last."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def causal_conv_silu(x: Tensor, weight: Tensor, bias: Tensor | None, past: Tensor | None = None) -> Tensor:
    """silu(bias + sum_k weight[k] x_{t - K + 1 + k}), with zeros (or `past`) before the first position.

    Written as K shifted multiply-adds: on a CPU this beats a grouped convolution, which wants channels first.

    Args:
        x: [B, L, E].
        weight: [E, 1, K].
        bias: [E] or None.
        past: [B, K - 1, E], the inputs before x, or None for zeros.

    Returns:
        [B, L, E].
    """
    taps = weight.shape[-1]
    w = weight[:, 0].to(x.dtype)
    if past is not None:
        x = torch.cat([past.to(x.dtype), x], dim=1)
    elif taps > 1:
        x = F.pad(x, (0, 0, taps - 1, 0))
    length = x.shape[1] - taps + 1
    y = x[:, :length] * w[:, 0]
    y = y if bias is None else y + bias.to(x.dtype)
    for k in range(1, taps):
        y = torch.addcmul(y, x[:, k : k + length], w[:, k])
    return F.silu(y)
