"""The smallest spanning set, greedily: column-pivoted QR on the tokens of every image at once, to a tolerance.

Shape letters: B batch, N tokens, W windows, n tokens of a window, m steps, D width.

Prior art of choosing tokens by the largest residual of projection: SPARE (2606.18681), LRCP (2605.15621).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from patchscale.errors import InputError
from patchscale.tokens.reducers.base import Reduced, Reducer, masses, rows_at


class Pivots(NamedTuple):
    """What the greedy selection found.

    Attributes:
        index: int64 [B, m], the rows in the order of their choice.
        heights: [B, m], squared length of the chosen row's residual, never rising; -1 where the tolerance was reached.
        residual: [B, m + 1], share of the energy |X|_F^2 outside the span after 0, 1, ..., m steps.
        basis: [B, m, D], orthonormal rows that span the choice; zero where the tolerance was reached. None of
            `pivoted_gram`.
    """

    index: Tensor
    heights: Tensor
    residual: Tensor
    basis: Tensor | None

    @property
    def counts(self) -> Tensor:
        """int64 [B], chosen rows: K_eps of each image where there is a tolerance."""
        return (self.heights >= 0).sum(1)


@torch.no_grad()
def pivoted_qr(rows: Tensor, most: int, tolerance: float | None = None, valid: Tensor | None = None) -> Pivots:
    """Chooses argmax_i |(I - Q Q^T) x_i|^2 again and again, until |X - X Q^T Q|_F^2 <= tolerance |X|_F^2.

    Residuals are kept explicitly and every direction is orthogonalised twice, so no digits are lost to downdating.

    Args:
        rows: [B, n, D], float32 or float64.
        most: steps at most.
        tolerance: share of the energy that may stay outside (the square of the relative error eps); None takes `most`
            rows whatever they add.
        valid: bool [B, n], rows that may be chosen; all if None. Others must be zero.
    """
    residual = rows.clone()
    batch, count, dim = rows.shape
    steps = min(most, count)
    energy = rows.square().sum((1, 2))
    basis = rows.new_zeros(batch, steps, dim)
    index = torch.zeros(batch, steps, dtype=torch.int64, device=rows.device)
    heights = rows.new_full((batch, steps), -1.0)
    shares = rows.new_zeros(batch, steps + 1)
    shut = torch.zeros(batch, count, dtype=torch.bool, device=rows.device) if valid is None else ~valid
    norms = residual.square().sum(2)
    shares[:, 0] = (energy > 0).to(rows.dtype)
    taken = 0
    for step in range(steps):
        left = norms.sum(1)
        open_ = ~shut.all(1) if tolerance is None else (left > tolerance * energy) & ~shut.all(1)
        if not open_.any():
            break
        height, pick = norms.masked_fill(shut, -1.0).max(1)
        direction = rows_at(residual, pick[:, None])
        direction = direction - (direction @ basis[:, :step].transpose(1, 2)) @ basis[:, :step]
        direction = direction / direction.norm(dim=2, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
        direction = direction * open_[:, None, None]
        residual.baddbmm_(residual @ direction.transpose(1, 2), direction, alpha=-1)
        basis[:, step] = direction[:, 0]
        index[:, step] = pick
        heights[:, step] = torch.where(open_, height, -1.0)
        shut.scatter_(1, pick[:, None], shut.gather(1, pick[:, None]) | open_[:, None])
        norms = residual.square().sum(2)
        shares[:, step + 1] = norms.sum(1) / energy.clamp_min(torch.finfo(rows.dtype).tiny)
        taken = step + 1
    return Pivots(index[:, :taken], heights[:, :taken], shares[:, : taken + 1], basis[:, :taken])


@torch.no_grad()
def pivoted_gram(rows: Tensor, most: int, tolerance: float | None = None, valid: Tensor | None = None) -> Pivots:
    """The choice of `pivoted_qr`, made by pivoted Cholesky on the products X X^T in float64: n instead of D a step.

    For float32 tokens nothing is lost, because residuals are exact to 1e-15 of the energy.

    Args:
        rows, most, tolerance, valid: as for `pivoted_qr`.
    """
    batch, count, _ = rows.shape
    x = rows.double()
    gram = x @ x.transpose(1, 2)
    left = gram.diagonal(dim1=1, dim2=2).clone()
    energy = left.sum(1)
    floor = count * torch.finfo(x.dtype).eps * left.amax(1)  # below it a residual is rounding and has no direction
    steps = min(most, count)
    factor = x.new_zeros(batch, steps, count)
    index = torch.zeros(batch, steps, dtype=torch.int64, device=rows.device)
    heights, shares = x.new_full((batch, steps), -1.0), x.new_zeros(batch, steps + 1)
    shares[:, 0] = (energy > 0).to(x.dtype)
    shut = torch.zeros(batch, count, dtype=torch.bool, device=rows.device) if valid is None else ~valid
    taken = 0
    for step in range(steps):
        open_ = ~shut.all(1) if tolerance is None else (left.sum(1) > tolerance * energy) & ~shut.all(1)
        if not open_.any():
            break
        height, pick = left.masked_fill(shut, -1.0).max(1)
        before = factor[:, :step]
        own = before.gather(2, pick[:, None, None].expand(-1, step, 1)).transpose(1, 2)
        column = rows_at(gram, pick[:, None]) - own @ before
        real = open_ & (height > floor)
        column = column[:, 0] * torch.where(real, height, torch.inf).rsqrt()[:, None]
        factor[:, step] = column
        index[:, step] = pick
        heights[:, step] = torch.where(open_, height, -1.0)
        left = (left - column.square()).clamp_min(0.0)
        shut.scatter_(1, pick[:, None], shut.gather(1, pick[:, None]) | open_[:, None])
        shares[:, step + 1] = left.sum(1) / energy.clamp_min(torch.finfo(x.dtype).tiny)
        taken = step + 1
    return Pivots(index[:, :taken], heights[:, :taken], shares[:, : taken + 1], None)


class PivotedQR(Reducer):
    """Keeps the tokens that span the others: `keep` of them, or as few as `tolerance` needs, per image.

    Every other token is assigned to the kept one with the largest projection. With a tolerance, images keep different
    numbers: the batch is padded and masked. Where tokens outnumber the width, windows of consecutive tokens each get
    their own basis, and `keep` rows go to the largest pivots of all windows.

    Float64 tokens are chosen by `pivoted_qr`, others by the faster `pivoted_gram`.

    Args:
        tolerance: share of each window's energy that may stay outside the span; None keeps exactly `keep`.
        window: tokens of a window; None: all tokens, or where these outnumber the width, the fewest equal windows that
            do not.
    """

    def __init__(self, tolerance: float | None = None, window: int | None = None) -> None:
        super().__init__()
        if tolerance is not None and not 0 <= tolerance < 1:
            raise InputError(f"tolerance {tolerance} is not a share of energy; use 0 or more, below 1")
        if window is not None and window < 1:
            raise InputError(f"window {window} is not a number of tokens; use 1 or more")
        self.tolerance, self.window = tolerance, window

    def shrinks_always(self) -> bool:
        return self.tolerance is not None

    def reduce(self, tokens: Tensor, keep: int, grid: tuple[int, int], scores: Tensor | None) -> Reduced:
        _, count, dim = tokens.shape
        fixed = tokens.detach()
        fixed = fixed if fixed.dtype == torch.float64 else fixed.float()
        window = min(self.window or -(-count // -(-count // dim)), count)
        index, heights = self._windows(fixed, min(keep, count), window)
        best = heights.topk(min(keep, heights.shape[1]), dim=1)
        real = best.values >= 0
        real[:, 0] = True
        most = int(real.sum(1).max())
        source = torch.where(real, index.gather(1, best.indices), count).sort(1).values[:, :most]
        mask = source < count
        safe = torch.where(mask, source, 0)
        rows = rows_at(tokens, safe) * mask[..., None].to(tokens.dtype)
        assignment = _assign(fixed, rows_at(fixed, safe), safe, mask, window)
        mass = masses(assignment, most) * mask
        every = bool(mask.all())
        return Reduced(rows, assignment, torch.where(mask, source, -1), mass, None if every else mask)

    def _windows(self, rows: Tensor, keep: int, window: int) -> tuple[Tensor, Tensor]:
        """Chosen places [B, W m] among all tokens, and their heights."""
        batch, count, dim = rows.shape
        number = -(-count // window)
        short = number * window - count
        padded = torch.nn.functional.pad(rows, (0, 0, 0, short)).reshape(batch * number, window, dim)
        valid = None
        if short:
            place = torch.arange(number * window, device=rows.device)
            valid = (place < count).view(number, window).repeat(batch, 1)
        choose = pivoted_qr if rows.dtype == torch.float64 else pivoted_gram
        found = choose(padded, keep, self.tolerance, valid)
        start = (torch.arange(number, device=rows.device) * window).repeat(batch)
        if not found.index.shape[1]:  # no energy anywhere: the first token stands for all
            return start.view(batch, number), rows.new_full((batch, number), -1.0)
        return (found.index + start[:, None]).reshape(batch, -1), found.heights.reshape(batch, -1)


def _assign(rows: Tensor, kept: Tensor, source: Tensor, mask: Tensor, window: int) -> Tensor:
    """int64 [B, N]: the kept row with the largest projection |<x, s>| / |s|, in its own window if there is one."""
    count, most = rows.shape[1], kept.shape[1]
    unit = torch.nn.functional.normalize(kept, dim=2)
    own = torch.arange(count, device=rows.device) // window
    parts = []
    for first in range(0, count, window):
        here = slice(first, min(count, first + window))
        fit = (rows[:, here] @ unit.transpose(1, 2)).abs()
        elsewhere = own[source] != first // window
        fit = fit.masked_fill((elsewhere & ~elsewhere.all(1, keepdim=True))[:, None], -1.0)
        parts.append(fit.masked_fill(~mask[:, None], -2.0).argmax(2))
    assignment = torch.cat(parts, dim=1)
    places = torch.where(mask, source, count)
    ranks = torch.arange(most, device=rows.device).expand_as(source)
    return torch.nn.functional.pad(assignment, (0, 1)).scatter(1, places, ranks)[:, :count]
