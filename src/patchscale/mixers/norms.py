"""Root-mean-square norms, plain and gated; statistics in float32 whatever the input."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def rms_norm(x: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, returned in the dtype of x."""
    f = torch.promote_types(x.dtype, torch.float32)
    xf = x.to(f)
    scale = torch.rsqrt(xf.square().mean(-1, keepdim=True) + eps)
    return (xf * scale * weight.to(f)).to(x.dtype)


def gated_rms_norm(y: Tensor, z: Tensor, weight: Tensor, eps: float = 1e-5) -> Tensor:
    """RMSNorm(y * silu(z)) * weight: the gate comes before the norm (Mamba-2, norm_before_gate = False)."""
    f = torch.promote_types(y.dtype, torch.float32)
    return rms_norm(y.to(f) * F.silu(z.to(f)), weight, eps).to(y.dtype)


class RMSNorm(nn.Module):
    """`rms_norm` with a learned weight [D]."""

    def __init__(self, dim: int, eps: float = 1e-5, device=None, dtype=None):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim, device=device, dtype=dtype))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}"
