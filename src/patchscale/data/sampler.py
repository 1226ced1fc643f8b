"""Which images a step sees, without stored state: resuming needs only the step number."""

from __future__ import annotations

import torch
from torch import Tensor

from patchscale.data._random import draw
from patchscale.errors import InputError

_REPEATED_KEY = 0x4E9EA7


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
        return self.images(first, int(places.max()) + 1 - first)[places - first]

    def epoch(self, step: int) -> int:
        """The epoch in which step `step` begins; an epoch is n samples."""
        return step * self.batch_size // self.n

    def images(self, start: int, count: int) -> Tensor:
        """Images `start` to `start + count` of the endless passes, int64 [count]."""
        parts = [torch.empty(0, dtype=torch.int64)]
        while count:
            index, offset = divmod(start, self.n)
            part = self._order(index)[offset : offset + count]
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return torch.cat(parts)

    def _order(self, epoch: int) -> Tensor:
        orders = self._orders  # read once: another thread may replace it
        order = orders.get(epoch)
        if order is None:
            generator = torch.Generator().manual_seed(int(draw(self.seed, epoch)[0]) >> 1)
            order = torch.randperm(self.n, generator=generator)
            self._orders = {key: value for key, value in orders.items() if key == epoch - 1} | {epoch: order}
        return order


class RepeatSampler:
    """One training in which a subset of the images is seen over and over, and every other image once.

    Of all T samples the share f comes from a subset of S = floor(f T / R) images, each seen exactly R times; the other
    T - S R samples are different images ("Scaling Laws and Interpretability of Learning from Repeated Data"). The
    subset comes in shuffled passes, spread evenly over training: among the first k samples are floor(k S R / T) of it.
    With equal seeds a smaller subset is part of a larger one.

    Args:
        n: number of images.
        seed: random seed; also chooses the subset.
        batch_size: samples a step.
        steps: of the whole training, so that T = steps x batch_size.
        fraction: f, above 0.
        repeats: R.

    Raises:
        InputError: the subset would be empty, or there are fewer images than the training sees.
    """

    def __init__(self, n: int, seed: int, batch_size: int, steps: int, fraction: float, repeats: int):
        self.batch_size, self.total = batch_size, steps * batch_size
        size = subset_size(n, self.total, fraction, repeats)
        self._repeated = size * repeats
        different = size + self.total - self._repeated
        chosen = EpochSampler(n, seed, batch_size).images(0, different)
        self.subset, self.unique = chosen[:size], chosen[size:]
        """Images seen R times, int64 [S]; images seen once in the order of their turn, int64 [T - S R]."""
        self._passes = EpochSampler(size, int(draw(seed, _REPEATED_KEY)[0]) >> 1, batch_size)

    def batch(self, step: int) -> Tensor:
        """Indices of step `step`, int64 [batch_size]; steps end where training does."""
        if not 0 <= step < self.total // self.batch_size:
            raise ValueError(f"step {step} is not among the {self.total // self.batch_size} of this training")
        edges = torch.arange(step * self.batch_size, (step + 1) * self.batch_size + 1)
        before = edges * self._repeated // self.total
        first, count = int(before[0]), int(before[-1] - before[0])
        repeated = before[1:] > before[:-1]
        batch = torch.empty(self.batch_size, dtype=torch.int64)
        batch[repeated] = self.subset[self._passes.images(first, count)]
        batch[~repeated] = self.unique[(edges - before)[:-1][~repeated]]
        return batch


def subset_size(n: int, total: int, fraction: float, repeats: int) -> int:
    """S of `RepeatSampler` for `total` samples.

    Raises:
        InputError: the subset would be empty, or there are fewer than the S + total - S x repeats images needed.
    """
    share = round(fraction * total)
    size = share // repeats
    if not size:
        raise InputError(
            f"repeats {repeats:,} is more than the {share:,} samples that repeat_fraction {fraction:g} takes of "
            f"{total:,}; lower it to {share:,} or less, or train longer"
        )
    different = size + total - size * repeats
    if different > n:
        raise InputError(
            f"repeat_fraction {fraction:g} with repeats {repeats:,} sees {different:,} different images in "
            f"{total:,} samples, but there are {n:,} training images; train for fewer steps, or use a larger "
            "set (data.train_size of a generated one)"
        )
    return size
