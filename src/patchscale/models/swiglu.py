"""The gated MLP of the Adventurer."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn


class SwiGLU(nn.Module):
    """w3(silu(w1 x) * w2 x), biases on all three."""

    def __init__(self, dim: int, hidden: int, device=None, dtype=None):
        super().__init__()
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.w1 = nn.Linear(dim, hidden, **dd)
        self.w2 = nn.Linear(dim, hidden, **dd)
        self.w3 = nn.Linear(hidden, dim, **dd)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] -> [..., D]."""
        return self.w3(F.silu(self.w1(x)) * self.w2(x))
