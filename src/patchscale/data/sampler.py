"""Which images a step sees, without stored state: resuming needs only the step number."""

from __future__ import annotations

import torch
from torch import Tensor

from patchscale.data._random import draw


class EpochSampler:
    """Endless shuffled epochs; `batch(step)` is a pure function of (seed, step).

    Each epoch is one permutation of all images, from a generator seeded by (seed, epoch). Batches follow each other
    without a gap: the last, partial batch of an epoch continues into the next, so every image is seen equally often.

    Args:
        n: number of images.
        seed: random seed.
        batch_size: images a step.
    """

    def __init__(self, n: int, seed: int, batch_size: int):
        if n < 1 or batch_size < 1:
            raise ValueError(f"EpochSampler needs at least one image and one image a batch, got {n=}, {batch_size=}")
        self.n, self.seed, self.batch_size = n, seed, batch_size
        self._orders: dict[int, Tensor] = {}

    def batch(self, step: int) -> Tensor:
        """Indices of step `step` (from 0), int64 [batch_size]."""
        if step < 0:
            raise ValueError(f"step {step} is negative")
        parts, start, missing = [], step * self.batch_size, self.batch_size
        while missing:
            epoch, offset = divmod(start, self.n)
            part = self._order(epoch)[offset : offset + missing]
            parts.append(part)
            start, missing = start + len(part), missing - len(part)
        return torch.cat(parts)

    def epoch(self, step: int) -> int:
        """The epoch in which step `step` begins."""
        return step * self.batch_size // self.n

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            generator = torch.Generator().manual_seed(int(draw(self.seed, epoch)[0]) >> 1)
            order = torch.randperm(self.n, generator=generator)
            self._orders = {key: value for key, value in self._orders.items() if key == epoch - 1} | {epoch: order}
        return self._orders[epoch]
