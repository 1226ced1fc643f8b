"""Finding where a profiled loss has risen too far, for many quantities side by side, without trusting a stuck fit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Evaluate = Callable[[np.ndarray, np.ndarray, np.ndarray, bool], tuple[np.ndarray, np.ndarray]]
_ROUNDS, _EXPANSIONS, _REFINEMENTS = 4, 24, 12


def walk_to(
    evaluate: Evaluate, place: np.ndarray, cost: np.ndarray, rise: np.ndarray, first: np.ndarray, reach: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Offsets at which the profiled loss has risen by `rise`.

    Growing steps until it has, then false position on the square root of the rise. Every end found is doubted once:
    refitted from starts spread over the other parameters. If one of them fits better than the cutoff, the walk goes on
    from there.

    Args:
        evaluate: (rows, offsets, nearby places, thorough) -> (places, losses) with the quantity held at its offset;
            thorough asks for more starts than the nearby place.
        place, cost: [S, m] and [S], the optimum of every row.
        rise: [S] rise that ends the interval.
        first: [S] first offset to try.
        reach: [S] largest offset allowed (may be infinite).

    Returns:
        ([S] offsets, [S] opened): `opened` where even `reach` (tried second), or 1e4 times the first step, does not
        raise the loss enough.
    """
    walk = _Walk(evaluate, place, cost, rise, first, reach)
    live = np.flatnonzero(~walk.opened)
    for _ in range(_ROUNDS):
        walk.expand(live)
        live = live[~walk.opened[live]]
        walk.refine(live)
        live = walk.doubt(live)
        if not len(live):
            break
    walk.opened[live] = True
    return np.where(walk.opened, np.where(np.isfinite(reach), reach, walk.inner), walk.outer), walk.opened


class _Walk:
    """Brackets [inner, outer] of S walks; `near` is the refitted place at the inner end."""

    def __init__(self, evaluate, place, cost, rise, first, reach) -> None:
        count = len(first)
        self.evaluate, self.cost, self.rise, self.first, self.reach = evaluate, cost, rise, first, reach
        self.inner, self.inner_root = np.zeros(count), np.zeros(count)
        self.outer, self.outer_root = np.minimum(first, reach), np.full(count, np.nan)
        self.near = place.copy()
        self.opened = (reach <= 0) | ~np.isfinite(rise)

    def at(self, live, offset, thorough=False):
        """(places, square root of the share of the allowed rise) at these offsets."""
        found, loss = self.evaluate(live, offset, self.near[live], thorough)
        with np.errstate(all="ignore"):
            return found, np.sqrt(np.maximum(loss - self.cost[live], 0.0) / np.maximum(self.rise[live], 1e-300))

    def expand(self, live) -> None:
        """Moves the outer ends out until the loss there is too large, or opens the interval."""
        for step in range(_EXPANSIONS):
            if step == 1:
                limited = live[np.isfinite(self.reach[live])]
                if len(limited):
                    self.opened[limited] = self.at(limited, self.reach[limited])[1] < 1
                    live = live[~self.opened[live]]
            if not len(live):
                return
            found, root = self.at(live, self.outer[live])
            closed = root >= 1
            self.outer_root[live[closed]] = root[closed]
            still = live[~closed]
            self.stay(still, found[~closed], root[~closed])
            ended = (self.inner[still] >= self.reach[still]) | (self.inner[still] > 1e4 * self.first[still])
            self.opened[still[ended]] = True
            live = still[~ended]
            self.step_out(live)
        self.opened[live] = True

    def stay(self, live, found, root) -> None:
        """The outer end of these walks is still inside: it becomes the inner one."""
        self.near[live], self.inner[live], self.inner_root[live] = found, self.outer[live], root

    def step_out(self, live) -> None:
        factor = np.clip(1.15 / np.maximum(self.inner_root[live], 0.2), 1.3, 4.0)
        self.outer[live] = np.minimum(self.inner[live] * factor, self.reach[live])

    def refine(self, live) -> None:
        """False position between inner and outer ends."""
        for _ in range(_REFINEMENTS):
            wide = (self.outer[live] - self.inner[live]) > 1e-5 * self.outer[live]
            live = live[wide & (np.abs(self.outer_root[live] - 1) > 1e-4)]
            if not len(live):
                return
            known = np.isfinite(self.outer_root[live])
            share = (1 - self.inner_root[live]) / np.where(known, self.outer_root[live] - self.inner_root[live], 2.0)
            share = np.clip(np.where(np.isfinite(share), share, 0.5), 0.05, 0.98)
            middle = self.inner[live] + share * (self.outer[live] - self.inner[live])
            found, root = self.at(live, middle)
            over = root >= 1
            self.outer[live[over]], self.outer_root[live[over]] = middle[over], root[over]
            under = live[~over]
            self.near[under], self.inner[under], self.inner_root[under] = found[~over], middle[~over], root[~over]

    def doubt(self, live) -> np.ndarray:
        """The walks whose end was false: from other starts the loss just beyond it is not too large."""
        if not len(live):
            return live
        found, root = self.at(live, np.minimum(self.outer[live] * 1.001, self.reach[live]), thorough=True)
        false = root < 0.99
        wrong = live[false]
        self.stay(wrong, found[false], root[false])
        at_end = self.inner[wrong] >= self.reach[wrong]
        self.opened[wrong[at_end]] = True
        wrong = wrong[~at_end]
        self.step_out(wrong)
        return wrong
