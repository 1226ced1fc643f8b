"""Intrinsic complexity of tokens: how many directions it takes to span them, and what these cost to write down.

Shape letters: B batch, N tokens, D width, R = min(N, D).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from patchscale.errors import InputError
from patchscale.tokens.reducers.pivoted_qr import pivoted_qr

PRECISION = 1 / 256


class Complexity(NamedTuple):
    """Of each image, [B].

    Attributes:
        spanning: int64, tokens of the greedy spanning set (pivoted QR) at the tolerance.
        rank: int64, epsilon-rank: the fewest directions of any kind at the tolerance (leading singular vectors).
        effective_rank: float64, exp(H) with H the entropy of the shares sigma_i^2 / sum sigma^2 (Roy and Vetterli).
        code_rank: int64, the number of directions at which the two-part code is shortest.
        code_bits: float64, that length in bits per number of the N x D table; only differences mean anything.
    """

    spanning: Tensor
    rank: Tensor
    effective_rank: Tensor
    code_rank: Tensor
    code_bits: Tensor


@torch.no_grad()
def complexity(tokens: Tensor, tolerance: float = 0.05, precision: float = PRECISION) -> Complexity:
    """Complexity of tokens [B, N, D], in float64.

    The two-part code of K directions is N D / 2 log(RSS_K / (N D)) for the residuals plus K (N + D) / 2 log(N D) for
    the coefficients and directions. Residuals below `precision` times the tokens' root mean square cost nothing more,
    else any exact fit would be worth infinitely many bits.

    Args:
        tolerance: share of the energy |X|_F^2 that may stay outside the span (the square of the relative error).
        precision: see above.

    Raises:
        InputError: a tolerance outside [0, 1) or a precision that is not positive.
    """
    if not 0 <= tolerance < 1:
        raise InputError(f"tolerance {tolerance} is not a share of energy; use 0 or more, below 1")
    if precision <= 0:
        raise InputError(f"precision {precision} is not positive; use a share of the tokens' size, such as 0.004")
    rows = tokens.double()
    _, count, dim = rows.shape
    squares = torch.linalg.svdvals(rows).square()
    energy = squares.sum(1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    tail = torch.cat([squares.flip(1).cumsum(1).flip(1), torch.zeros_like(squares[:, :1])], dim=1) / energy
    shares = squares / energy
    entropy = -torch.special.xlogy(shares, shares).sum(1)
    numbers = count * dim
    directions = torch.arange(squares.shape[1] + 1, device=tokens.device)
    mean_square = energy / numbers
    variance = (tail * mean_square).clamp_min(precision**2 * mean_square)
    nats = numbers / 2 * variance.log() + directions * (count + dim) / 2 * math.log(numbers)
    best = nats.min(1)
    return Complexity(
        spanning=pivoted_qr(rows, min(count, dim), tolerance).counts,
        rank=(tail > tolerance).sum(1),
        effective_rank=entropy.exp(),
        code_rank=best.indices,
        code_bits=best.values / math.log(2) / numbers,
    )


@torch.no_grad()
def span_residual(tokens: Tensor, rows: Tensor) -> Tensor:
    """Share of the energy of tokens [B, N, D] outside the span of rows [B, K, D], float64 [B]; see `span_copy`."""
    left = (tokens.double() - span_copy(tokens, rows)).square().sum((1, 2))
    return left / tokens.double().square().sum((1, 2)).clamp_min(torch.finfo(torch.float64).tiny)


@torch.no_grad()
def span_copy(tokens: Tensor, rows: Tensor) -> Tensor:
    """The closest tokens that combinations of rows [B, K, D] give (least squares), float64 [B, N, D]."""
    _, values, basis = torch.linalg.svd(rows.double(), full_matrices=False)
    real = values > 1e-10 * values[:, :1]
    basis = basis * real[..., None]
    return tokens.double() @ basis.transpose(1, 2) @ basis
