"""What all reducers share: their signature, their result, and the identity where nothing is to be reduced.

Shape letters: B batch, N tokens before, K rows kept, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from patchscale.errors import InputError


class Reduced(NamedTuple):
    """Kept rows, and where every token went.

    Attributes:
        tokens: [B, K, D]; padding rows are zero.
        assignment: int64 [B, N], the row that stands for each token; -1 for a token that was dropped.
        source: int64 [B, K], the token that a row is or represents; -1 for slots and padding. Ascending where rows are
            tokens, so that causal encoders read them in image order.
        mass: float32 [B, K], how many tokens a row was made of.
        mask: bool [B, K], False for padding; None where every row of every image is real.
    """

    tokens: Tensor
    assignment: Tensor
    source: Tensor
    mass: Tensor
    mask: Tensor | None = None

    @property
    def counts(self) -> Tensor:
        """int64 [B], kept rows of each image."""
        batch, rows, _ = self.tokens.shape
        return torch.full((batch,), rows, device=self.tokens.device) if self.mask is None else self.mask.sum(1)


class Reducer(nn.Module, ABC):
    """Keeps `keep` rows of [B, N, D]; the tokens themselves come back when `keep` is at least N.

    Attributes:
        needs_scores: whether `scores` must be given.
    """

    needs_scores = False

    def forward(
        self,
        tokens: Tensor,
        keep: int,
        *,
        grid: tuple[int, int] | None = None,
        scores: Tensor | None = None,
    ) -> Reduced:
        """Reduces tokens [B, N, D].

        Args:
            keep: K.
            grid: rows and columns of the token grid, for reducers that look at neighbours; a square one, or else a
                single row, if not given.
            scores: [B, N], importance of each token, where `needs_scores`.

        Raises:
            InputError: `keep` below 1, a grid of another size, or scores missing.
        """
        count = tokens.shape[1]
        if keep < 1:
            raise InputError(f"kept tokens {keep} is not positive; keep at least 1 of {count}")
        if grid is not None and grid[0] * grid[1] != count:
            raise InputError(f"a {grid[0]}x{grid[1]} grid does not hold {count} tokens")
        if keep >= count and not self.shrinks_always():
            return identity(tokens)
        if self.needs_scores and (scores is None or scores.shape != tokens.shape[:2]):
            raise InputError(f"{type(self).__name__} chooses by scores of shape {tuple(tokens.shape[:2])}; give them")
        return self.reduce(tokens, keep, grid or _guessed_grid(count), scores)

    def shrinks_always(self) -> bool:
        """True for a reducer that decides the count itself, so that `keep` is only its upper end."""
        return False

    @abstractmethod
    def reduce(self, tokens: Tensor, keep: int, grid: tuple[int, int], scores: Tensor | None) -> Reduced:
        """The reduction proper, for `keep` < N."""


def identity(tokens: Tensor) -> Reduced:
    """All tokens, each standing for itself."""
    batch, count, _ = tokens.shape
    own = torch.arange(count, device=tokens.device).expand(batch, count)
    return Reduced(tokens, own, own, tokens.new_ones(batch, count, dtype=torch.float32))


def rows_at(tokens: Tensor, index: Tensor) -> Tensor:
    """Rows `index` [B, K] of tokens [B, N, D], as [B, K, D]; unlike `gather` keeps no token for a backward pass."""
    return tokens[torch.arange(len(tokens), device=tokens.device)[:, None], index]


def selected(tokens: Tensor, index: Tensor) -> Reduced:
    """The tokens `index` [B, K] and no others; the rest is dropped."""
    index = index.sort(1).values
    batch, keep = index.shape
    rows = torch.arange(keep, device=index.device).expand(batch, keep)
    assignment = index.new_full(tokens.shape[:2], -1).scatter(1, index, rows)
    return Reduced(rows_at(tokens, index), assignment, index, tokens.new_ones(batch, keep, dtype=torch.float32))


def sums(values: Tensor, assignment: Tensor, rows: int) -> Tensor:
    """Sum of values [B, N, D] over the tokens assigned to each of `rows` rows, [B, rows, D]."""
    target = assignment[..., None].expand_as(values)
    return values.new_zeros(values.shape[0], rows, values.shape[2]).scatter_add(1, target, values)


def masses(assignment: Tensor, rows: int) -> Tensor:
    """float32 [B, rows], how many tokens are assigned to each row."""
    ones = torch.ones_like(assignment, dtype=torch.float32)
    return ones.new_zeros(assignment.shape[0], rows).scatter_add(1, assignment, ones)


def _guessed_grid(count: int) -> tuple[int, int]:
    side = int(count**0.5 + 0.5)
    return (side, side) if side * side == count else (1, count)
