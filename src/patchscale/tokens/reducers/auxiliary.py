"""The seam for losses that a part of the model asks for, such as balance and orthogonality of slots.

A module that wants one sets `self.auxiliary_loss` in its forward pass in training: a weighted scalar, a mean over
samples. Whoever computes the task's loss adds `auxiliary_loss(model)` after the forward pass.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def auxiliary_loss(model: nn.Module) -> Tensor:
    """Sum of what the modules asked for since the last call, which it takes away; zero if nothing."""
    total = torch.zeros(())
    for module in model.modules():
        asked = module.__dict__.pop("auxiliary_loss", None)
        if asked is not None:
            total = total.to(asked) + asked
    return total
