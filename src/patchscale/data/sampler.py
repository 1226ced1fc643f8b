"""Which images a step sees, without stored state: resuming needs only the step number."""

from __future__ import annotations

import torch
from torch import Tensor

from patchscale.data._random import draw


class EpochSampler:
    """Endless shuffled epochs; `batch(step)` is a pure function of (seed, step).

    Each pass is one permutation of all images, from a generator seeded by (seed, pass). Batches follow each other
    without a gap: the last, partial batch of a pass continues into the next, so every image is seen equally often.

    With `repeats` (repeated augmentation: Hoffer et al., "Augment your batch"; three in DeiT) an image is drawn so many
    times in a row. An epoch stays n samples, so a pass takes `repeats` epochs; DeiT instead begins a new permutation
    each epoch and drops the rest of the old one. In a batch the repeats stand far apart, first ones first, so that
    neighbours, which may be mixed, are different images.

    Args:
        n: number of images.
        seed: random seed.
        batch_size: samples a step.
        repeats: samples of an image that follow each other.
    """

    def __init__(self, n: int, seed: int, batch_size: int, repeats: int = 1):
        if n < 1 or batch_size < 1:
            raise ValueError(f"EpochSampler needs at least one image and one image a batch, got {n=}, {batch_size=}")
        if repeats < 1:
            raise ValueError(f"EpochSampler draws an image at least once, got {repeats=}")
        self.n, self.seed, self.batch_size, self.repeats = n, seed, batch_size, repeats
        self._orders: dict[int, Tensor] = {}

    def batch(self, step: int) -> Tensor:
        """Indices of step `step` (from 0), int64 [batch_size]."""
        if step < 0:
            raise ValueError(f"step {step} is negative")
        samples = torch.arange(step * self.batch_size, (step + 1) * self.batch_size)
        samples = samples[(samples % self.repeats).argsort(stable=True)]
        places = samples // self.repeats
        first = int(places.min())
        return self._images(first, int(places.max()) + 1 - first)[places - first]

    def epoch(self, step: int) -> int:
        """The epoch in which step `step` begins; an epoch is n samples."""
        return step * self.batch_size // self.n

    def _images(self, start: int, count: int) -> Tensor:
        """Images `start` to `start + count` of the endless passes."""
        parts = []
        while count:
            index, offset = divmod(start, self.n)
            part = self._order(index)[offset : offset + count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return torch.cat(parts)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            generator = torch.Generator().manual_seed(int(draw(self.seed, epoch)[0]) >> 1)
            order = torch.randperm(self.n, generator=generator)
            self._orders = {key: value for key, value in self._orders.items() if key == epoch - 1} | {epoch: order}
        return self._orders[epoch]
