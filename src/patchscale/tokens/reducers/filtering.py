"""Orthogonal filtering ("Fewer Tokens, Greater Scaling", 2511.19515): as released, and as described.

Shape letters: B batch, N tokens, K slots, D width.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchscale.errors import InputError
from patchscale.tokens.reducers.base import Reduced, Reducer, masses, sums
from patchscale.tokens.reducers.slots import Experts, balance, mean_squared_cosine


class ReleasedFiltering(Reducer):
    """Hard top-1 routing of tokens to K slot experts, as the published code has it.

    Slot k is LN(sum of LN_k(x + MLP_k(x)) over the tokens routed to k): K (2 D^2 + 5 D + 1) + 2 D parameters, which
    grow with K. Reproduced with its defects:

    - the routing is an argmax whose probability is not used, so the gate gets no gradient from the task;
    - there is no orthogonality term;
    - `L_bal` marks expert 0 alone (its mask is scattered along the token axis), so it balances nothing;
    - a slot without tokens is LN(0) if another image of the batch fills it, else the expert's answer to noise, so an
      image's slots depend on its batch.

    The noise on the experts' inputs (1e-5) is left out in evaluation, where it would only blur equal results.

    Args:
        dim: D.
        slots: K; the one value of `keep`.
        auxiliary: weight of importance and balance loss.
        noise: standard deviation on the experts' inputs in training.
    """

    def __init__(self, dim: int, slots: int, *, auxiliary: float = 0.1, noise: float = 1e-5) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, slots)
        self.experts = Experts(slots, dim)
        self.norm = nn.LayerNorm(dim)
        self.slots, self.auxiliary, self.noise = slots, auxiliary, noise

    def reduce(self, tokens: Tensor, keep: int, grid: tuple[int, int], scores: Tensor | None) -> Reduced:
        if keep != self.slots:
            raise InputError(
                f"this filtering has {self.slots} slots and cannot keep {keep} tokens; build it for {keep}"
            )
        batch, count, dim = tokens.shape
        probabilities = self.gate(tokens).float().softmax(2)
        choice = probabilities.argmax(2)
        noisy = tokens + self.noise * torch.randn_like(tokens) if self.training else tokens
        answers = self.experts.routed(noisy.flatten(0, 1), choice.flatten()).view(batch, count, dim)
        slots = sums(answers, choice, keep)
        mass = masses(choice, keep)
        idle = (mass.sum(0) == 0).nonzero()[:, 0].tolist()
        if idle:
            blank = self.noise * torch.randn_like(tokens[:1, 0]) if self.training else torch.zeros_like(tokens[:1, 0])
            answer = torch.cat([self.experts.one(k, blank) for k in idle])
            slots = slots.index_add(1, torch.tensor(idle, device=slots.device), answer.expand(batch, -1, -1))
        if self.training:
            self.auxiliary_loss = self.auxiliary * (
                _importance(probabilities) + _released_balance(probabilities, choice)
            )
        return Reduced(self.norm(slots), choice, torch.full_like(choice[:, :1].expand(-1, keep), -1), mass)


def _importance(probabilities: Tensor) -> Tensor:
    """Variance over positions and experts of the probabilities summed over the batch, over K^2."""
    return probabilities.sum(0).var() / probabilities.shape[2] ** 2


def _released_balance(probabilities: Tensor, choice: Tensor) -> Tensor:
    """K sum_k usage_k p_k with the release's mask: ones at [image, chosen expert as a token place, expert 0]."""
    mask = torch.zeros_like(probabilities)
    mask.scatter_(1, choice[..., None], 1.0)
    return probabilities.shape[2] * (mask.mean((0, 1)) * probabilities.mean((0, 1))).sum()


class Filtering(Reducer):
    """Orthogonal filtering as its text describes it: routing that learns from the task, balanced, orthogonal slots.

    s_k = LN(sum of p_ik E(x_i) over the tokens routed to k, + e_k), with p the gate's probability (so the gate learns),
    the balance loss of `slots.balance`, and the mean squared cosine between filled slots as orthogonality loss.
    One expert serves all slots; slot k is known by e_k and by its gate row, both linear in a fixed sin-cos code of k,
    so parameters do not grow with K and one module serves every K.

    Args:
        dim: D, even.
        slots: number of own experts where `experts` is "own".
        experts: "shared" (one for all slots) or "own" (one a slot, as released).
        balance: weight of the balance loss.
        orthogonality: weight of the orthogonality loss.
    """

    def __init__(
        self,
        dim: int,
        slots: int,
        *,
        experts: Literal["shared", "own"] = "shared",
        balance: float = 0.01,
        orthogonality: float = 0.1,
    ) -> None:
        super().__init__()
        if experts not in ("shared", "own"):
            raise InputError(f"unknown experts {experts!r}; use shared or own")
        self.query, self.name = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.experts = Experts(slots if experts == "own" else 1, dim)
        self.norm_in, self.norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.shared, self.balance, self.orthogonality = experts == "shared", balance, orthogonality

    def reduce(self, tokens: Tensor, keep: int, grid: tuple[int, int], scores: Tensor | None) -> Reduced:
        batch, count, dim = tokens.shape
        if not self.shared and keep > len(self.experts.w1):
            raise InputError(f"this filtering has {len(self.experts.w1)} experts and cannot keep {keep}; keep fewer")
        code = slot_codes(keep, dim).to(tokens)
        logits = F.linear(self.norm_in(tokens), self.query(code)) / math.sqrt(dim)
        probabilities = logits.float().softmax(2)
        chosen, choice = probabilities.max(2)
        if self.shared:
            answers = self.experts.one(0, tokens)
        else:
            answers = self.experts.routed(tokens.flatten(0, 1), choice.flatten()).view(batch, count, dim)
        slots = self.norm(sums(answers * chosen[..., None].to(answers), choice, keep) + self.name(code))
        mass = masses(choice, keep)
        if self.training:
            apart = mean_squared_cosine(slots, mass > 0).mean()
            self.auxiliary_loss = self.orthogonality * apart + self.balance * balance(probabilities, choice).mean()
        return Reduced(slots, choice, torch.full_like(choice[:, :1].expand(-1, keep), -1), mass)


def slot_codes(slots: int, dim: int) -> Tensor:
    """[K, D], sines and cosines of each slot's number at D / 2 rates, of unit mean square."""
    rate = 10_000.0 ** -(torch.arange(dim // 2, dtype=torch.float64) / (dim // 2))
    angle = torch.arange(slots, dtype=torch.float64)[:, None] * rate
    return math.sqrt(2.0) * torch.cat([angle.sin(), angle.cos()], dim=1).float()


class SoftMoE(Reducer):
    """Slots as weighted means of all tokens (Soft MoE, 2308.00951, section 2): the smooth relative of filtering.

    slot_k = sum_i D_ik x_i with D = softmax over tokens of scale * cos(x_i, phi_k); a token's slot is the one with the
    largest logit. D phi parameters a slot.

    Args:
        dim: D.
        slots: the largest K; smaller ones use the first slots.
    """

    def __init__(self, dim: int, slots: int) -> None:
        super().__init__()
        self.phi = nn.Parameter(torch.randn(slots, dim) / math.sqrt(dim))
        self.scale = nn.Parameter(torch.full((), math.sqrt(dim)))

    def reduce(self, tokens: Tensor, keep: int, grid: tuple[int, int], scores: Tensor | None) -> Reduced:
        if keep > len(self.phi):
            raise InputError(f"this Soft MoE has {len(self.phi)} slots and cannot keep {keep}; keep fewer")
        logits = self.scale * F.linear(F.normalize(tokens, dim=2), F.normalize(self.phi[:keep], dim=1))
        slots = logits.float().softmax(1).transpose(1, 2).to(tokens.dtype) @ tokens
        choice = logits.argmax(2)
        return Reduced(slots, choice, torch.full_like(choice[:, :1].expand(-1, keep), -1), masses(choice, keep))
