"""Which anchors and proposals of an image its losses are made of: drawn from a generator of the image's own.

So the choice does not depend on which images share a part of the batch, or a process.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

Generators = Sequence[Generator]
"""One for each image, on the CPU: every device then draws the same."""


def image_generators(seeds: Sequence[int]) -> list[Generator]:
    """A generator for each image."""
    return [Generator().manual_seed(seed) for seed in seeds]


def sampled(labels: Tensor, count: int, positive_share: float, generator: Generator) -> Tensor:
    """Some positive and some negative candidates of one image, as torchvision's `BalancedPositiveNegativeSampler`.

    Args:
        labels: [n]; 1 or more is positive, 0 negative, below 0 neither.
        count: candidates wanted, fewer where there are not so many.
        positive_share: largest share of `count` that positive ones take; negative ones fill up.
        generator: of the image.

    Returns:
        int64 [m], places of the chosen ones in order.
    """
    positive, negative = torch.where(labels >= 1)[0], torch.where(labels == 0)[0]
    positives = _some(positive, int(count * positive_share), generator)
    return torch.cat([positives, _some(negative, count - len(positives), generator)]).sort().values


def _some(places: Tensor, count: int, generator: Generator) -> Tensor:
    return places[torch.randperm(len(places), generator=generator)[:count].to(places.device)]
