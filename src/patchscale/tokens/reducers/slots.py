"""What the slot reducers share: experts that read one token, and the statistics and losses of a routing.

Shape letters: B batch, N tokens, K slots (experts), D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers.weight_init import trunc_normal_
from torch import Tensor, nn


class Experts(nn.Module):
    """K expert networks x -> LN_k(x + W2_k gelu(W1_k x + b1_k) + b2_k), weights stacked: K (2 D^2 + 4 D) numbers."""

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.w1, self.w2 = nn.Parameter(torch.empty(count, dim, dim)), nn.Parameter(torch.empty(count, dim, dim))
        self.b1, self.b2 = nn.Parameter(torch.zeros(count, dim)), nn.Parameter(torch.zeros(count, dim))
        self.scale, self.shift = nn.Parameter(torch.ones(count, dim)), nn.Parameter(torch.zeros(count, dim))
        if not self.w1.is_meta:
            trunc_normal_(self.w1, std=0.02)
            trunc_normal_(self.w2, std=0.02)

    def one(self, expert: int, rows: Tensor) -> Tensor:
        """Expert number `expert` on rows [..., D]."""
        hidden = F.gelu(F.linear(rows, self.w1[expert], self.b1[expert]))
        out = rows + F.linear(hidden, self.w2[expert], self.b2[expert])
        return F.layer_norm(out, out.shape[-1:], self.scale[expert], self.shift[expert])

    def routed(self, tokens: Tensor, choice: Tensor) -> Tensor:
        """Each of the rows [M, D] through its own expert, `choice` [M]."""
        order = choice.argsort(stable=True)
        sizes = torch.bincount(choice, minlength=len(self.w1)).tolist()
        parts = tokens[order].split(sizes)
        done = torch.cat([self.one(k, part) for k, part in enumerate(parts) if len(part)])
        return torch.empty_like(done).index_copy(0, order, done)


def mean_squared_cosine(slots: Tensor, filled: Tensor) -> Tensor:
    """[B]: mean over pairs j != k of (s_j . s_k / |s_j| |s_k|)^2 among the slots [B, K, D] that are `filled` [B, K].

    0 for orthogonal slots, 1 for parallel ones, 0 where fewer than two slots are filled.
    """
    unit = F.normalize(slots.float(), dim=2) * filled[..., None]
    squares = (unit @ unit.transpose(1, 2)).square()
    off = squares.sum((1, 2)) - squares.diagonal(dim1=1, dim2=2).sum(1)
    number = filled.sum(1)
    return off / (number * (number - 1)).clamp_min(1)


def balance(probabilities: Tensor, choice: Tensor) -> Tensor:
    """[B]: K sum_k f_k p_k per image, f_k the share of tokens routed to slot k, p_k its mean probability.

    1 when both are even; the load-balancing loss of Switch Transformers (2101.03961, equation 4), per image, so that
    it is a mean over samples whatever the batch.
    """
    slots = probabilities.shape[2]
    share = F.one_hot(choice, slots).to(probabilities.dtype).mean(1)
    return slots * (share * probabilities.mean(1)).sum(1)
