"""Stochastic depth by sample of the whole batch: who skips a branch does not depend on how the batch is divided.

timm's `DropPath` draws from torch's global generator, so that a batch in two parts, or on two processes, would train
with other draws than the whole one. Shape letters: B batch, P rows of a part.
"""

from __future__ import annotations

import torch
from timm.layers.drop import DropPath
from torch import Generator, Tensor, nn


class SampleDropPath(DropPath):
    """A `DropPath` that is told which samples keep its branch."""

    factors: Tensor
    """[P]: 0, or 1 / (1 - rate), for each sample of the part that comes next."""

    def forward(self, x: Tensor) -> Tensor:
        """Scales each sample's rows of x [P or a multiple of it, ...]."""
        if not self.training:
            return x
        assert len(x) % len(self.factors) == 0, f"{len(x)} rows are not those of {len(self.factors)} samples"
        factors = self.factors.to(x.dtype).repeat_interleave(len(x) // len(self.factors))
        return x * factors.view(-1, *[1] * (x.ndim - 1))


class StochasticDepth:
    """All `DropPath` layers of a model, which it replaces."""

    def __init__(self, model: nn.Module) -> None:
        self.layers: list[SampleDropPath] = []
        for parent in list(model.modules()):
            for name, child in parent.named_children():
                if type(child) is DropPath:
                    assert child.scale_by_keep, "every model of this package scales what it keeps"
                    self.layers.append(SampleDropPath(child.drop_prob))
                    setattr(parent, name, self.layers[-1])

    def draw(self, seed: int, batch: int, rows: slice, device: torch.device) -> None:
        """Sets the factors for `rows` of a batch of B = `batch` samples; a pure function of its arguments."""
        if not self.layers:
            return
        draws = torch.rand(len(self.layers), batch, generator=Generator().manual_seed(seed))[:, rows]
        keep = torch.tensor([1 - layer.drop_prob for layer in self.layers])[:, None]
        table = torch.where(draws < keep, 1 / keep, 0.0).to(device)
        for layer, factors in zip(self.layers, table, strict=True):
            layer.factors = factors
