"""Reducers without parameters in which every token goes into some row: pooling, ToMe, k-means, VisionZip.

Shape letters: B batch, N tokens before, K rows kept, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from patchscale.tokens.reducers.base import Reduced, Reducer, masses, rows_at, sums


class GridPool(Reducer):
    """Means over K equal rectangles of the token grid.

    The rectangles form r x c = K with an aspect nearest to the grid's. Where no such factors fit into the grid, the
    groups are K runs of consecutive tokens.
    """

    def reduce(self, tokens: Tensor, keep: int, grid: tuple[int, int], scores: Tensor | None) -> Reduced:
        batch, count, _ = tokens.shape
        rows, cols = grid
        down, across = pooled_grid(keep, grid) or (0, 0)
        place = torch.arange(count, device=tokens.device)
        if down:
            assignment = (place // cols * down // rows) * across + place % cols * across // cols
        else:
            assignment = place * keep // count
        assignment = assignment.expand(batch, -1)
        mass = masses(assignment, keep)
        middle = torch.stack([places[len(places) // 2] for places in _members(assignment[0], keep)]).expand(batch, -1)
        return Reduced(_means(sums(tokens, assignment, keep), mass), assignment, middle, mass)


def pooled_grid(keep: int, grid: tuple[int, int]) -> tuple[int, int] | None:
    """Rows and columns with rows * columns = `keep`, neither larger than the grid's, nearest to its aspect; or none."""
    pairs = [(d, keep // d) for d in range(1, keep + 1) if keep % d == 0]
    fitting = [pair for pair in pairs if pair[0] <= grid[0] and pair[1] <= grid[1]]
    return min(fitting, key=lambda pair: abs(pair[0] * grid[1] - pair[1] * grid[0]), default=None)


class ToMe(Reducer):
    """Token merging (Bolya et al. 2210.09461, section 3): bipartite soft matching, in rounds until K rows are left.

    A round splits the rows alternately into A and B, lets every row of A propose its most similar row of B (cosine of
    the rows themselves), and merges the best proposals, at most half of the rows. Rows are means weighted by how many
    tokens are in them.
    """

    def reduce(self, tokens: Tensor, keep: int, grid: tuple[int, int], scores: Tensor | None) -> Reduced:
        batch, count, _ = tokens.shape
        rows, mass = tokens, tokens.new_ones(batch, count, dtype=torch.float32)
        assignment = source = torch.arange(count, device=tokens.device).expand(batch, count)
        while rows.shape[1] > keep:
            merged, left = _match(rows.detach(), min(rows.shape[1] - keep, rows.shape[1] // 2))
            weight = mass.to(rows.dtype)[..., None]
            rows = sums(rows * weight, merged, left)
            mass = sums(mass[..., None], merged, left)[..., 0]
            rows = rows / mass.to(rows.dtype)[..., None]
            assignment = merged.gather(1, assignment)
            source = _survivors(merged, left, source)
        return Reduced(rows, assignment, source, mass)


def _match(rows: Tensor, merges: int) -> tuple[Tensor, int]:
    """One round: the new row of each row [B, n] after `merges` rows of A (even places) went into B (odd places)."""
    batch, count, _ = rows.shape
    unit = F.normalize(rows.float(), dim=-1)
    best, partner = (unit[:, ::2] @ unit[:, 1::2].transpose(1, 2)).max(dim=2)
    going = best.argsort(dim=1, descending=True, stable=True)[:, :merges]
    parent = torch.arange(count, device=rows.device).repeat(batch, 1)
    parent.scatter_(1, 2 * going, 2 * partner.gather(1, going) + 1)
    alive = torch.ones(batch, count, dtype=torch.bool, device=rows.device).scatter_(1, 2 * going, False)
    return (alive.cumsum(1) - 1).gather(1, parent), count - merges


def _survivors(merged: Tensor, left: int, source: Tensor) -> Tensor:
    """Source of each of `left` rows: that of the last row that went into it, which is its member of B."""
    place = torch.arange(merged.shape[1], device=merged.device).expand_as(merged)
    odd_first = torch.where(place % 2 == 1, place + merged.shape[1], place)
    top = merged.new_zeros(merged.shape[0], left).scatter_reduce(1, merged, odd_first, "amax", include_self=False)
    return source.gather(1, top % merged.shape[1])


class KMeans(Reducer):
    """Means of K clusters by Lloyd's algorithm, started from evenly spaced tokens.

    Args:
        iterations: rounds of assignment and means; the last means carry the gradient.
    """

    def __init__(self, iterations: int = 5) -> None:
        super().__init__()
        self.iterations = iterations

    def reduce(self, tokens: Tensor, keep: int, grid: tuple[int, int], scores: Tensor | None) -> Reduced:
        count = tokens.shape[1]
        fixed = tokens.detach().float()
        start = (torch.arange(keep, device=tokens.device) * count + count // 2) // keep
        centres, assignment = fixed[:, start], None
        for _ in range(self.iterations):
            distance = _distances(fixed, centres)
            assignment = distance.argmin(2)
            mass = masses(assignment, keep)
            centres = torch.where(mass[..., None] > 0, _means(sums(fixed, assignment, keep), mass), centres)
        assert assignment is not None
        source = _distances(fixed, centres).argmin(1)
        rows = _means(sums(tokens, assignment, keep), mass)
        rows = torch.where(mass[..., None] > 0, rows, centres.to(rows.dtype))
        return Reduced(rows, assignment, source, mass)


class VisionZip(Reducer):
    """Dominant tokens by score, and contextual ones merged of the rest (VisionZip, 2412.04467, section 3.2).

    The contextual rows are evenly spaced among the rest; every other token goes to the most similar of them (cosine),
    and a row is the mean of its members. Of 64 rows 10 are contextual, as published.

    Args:
        contextual: share of the rows that are contextual.
    """

    needs_scores = True

    def __init__(self, contextual: float = 10 / 64) -> None:
        super().__init__()
        self.contextual = contextual

    def reduce(self, tokens: Tensor, keep: int, grid: tuple[int, int], scores: Tensor | None) -> Reduced:
        assert scores is not None
        batch, count, _ = tokens.shape
        merged = min(keep, max(1, round(self.contextual * keep)))
        dominant = scores.topk(keep - merged, dim=1).indices
        is_rest = torch.ones(batch, count, dtype=torch.bool, device=tokens.device).scatter(1, dominant, False)
        rest = is_rest.nonzero()[:, 1].view(batch, -1)
        size = rest.shape[1]
        target = rest[:, (torch.arange(merged, device=tokens.device) * size + size // 2) // merged]
        source = torch.cat([dominant, target], dim=1).sort(1).values
        unit = F.normalize(tokens.detach().float(), dim=-1)
        similar = unit @ rows_at(unit, target).transpose(1, 2)
        rank = torch.searchsorted(source, target)
        assignment = rank.gather(1, similar.argmax(2))
        own = torch.arange(keep, device=tokens.device).expand(batch, keep)
        assignment = assignment.scatter(1, source, own)
        mass = masses(assignment, keep)
        return Reduced(_means(sums(tokens, assignment, keep), mass), assignment, source, mass)


def _means(total: Tensor, mass: Tensor) -> Tensor:
    return total / mass.clamp_min(1).to(total.dtype)[..., None]


def _distances(rows: Tensor, centres: Tensor) -> Tensor:
    """Squared distances [B, N, K]."""
    products = rows @ centres.transpose(1, 2)
    return rows.square().sum(2, keepdim=True) - 2 * products + centres.square().sum(2)[:, None]


def _members(assignment: Tensor, rows: int) -> list[Tensor]:
    """The tokens of each row, for one image's assignment [N]."""
    return [(assignment == row).nonzero()[:, 0] for row in range(rows)]
