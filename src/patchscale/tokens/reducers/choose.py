"""Reducers that keep some tokens as they are and drop the others: at random, or by a score."""

from __future__ import annotations

import torch
from torch import Tensor

from patchscale.tokens.reducers.base import Reduced, Reducer, selected

FIXED_SEED = 2511_19515


class RandomChoice(Reducer):
    """K tokens at random, the least any method must beat.

    In training a new draw for every image, from torch's global generator; in evaluation the first K of one fixed
    permutation, so that scores depend neither on the batch nor on a generator, and smaller K are nested in larger.
    """

    def reduce(self, tokens: Tensor, keep: int, grid: tuple[int, int], scores: Tensor | None) -> Reduced:
        batch, count, _ = tokens.shape
        if self.training:
            order = torch.rand(batch, count, device=tokens.device).argsort(1)
        else:
            generator = torch.Generator().manual_seed(FIXED_SEED)
            order = torch.randperm(count, generator=generator).to(tokens.device).expand(batch, count)
        return selected(tokens, order[:, :keep])


class TopScores(Reducer):
    """The K tokens of the highest score; with the class token's attention as score, attention pruning."""

    needs_scores = True

    def reduce(self, tokens: Tensor, keep: int, grid: tuple[int, int], scores: Tensor | None) -> Reduced:
        assert scores is not None
        return selected(tokens, scores.topk(keep, dim=1).indices)
