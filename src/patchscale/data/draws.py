"""Random numbers of a batch, of which a caller may want some rows only: every row's numbers are the same either way.

Shape letters: B batch.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

ALL = slice(None)


class Draws:
    """Draws for all `batch` rows from one generator and hands out those of `rows`.

    Args:
        generator: CPU generator.
        batch: B, rows of the whole batch.
        rows: the rows wanted.
    """

    def __init__(self, generator: Generator, batch: int, rows: slice = ALL) -> None:
        self.generator, self.batch, self.rows = generator, batch, rows

    def uniform(self, low: float, high: float, *lead: int) -> Tensor:
        """float32 [*lead, rows] in [low, high)."""
        return torch.empty(*lead, self.batch).uniform_(low, high, generator=self.generator)[..., self.rows]

    def integers(self, bound: int, *lead: int) -> Tensor:
        """int64 [*lead, rows] in 0 .. bound - 1."""
        return torch.randint(bound, (*lead, self.batch), generator=self.generator)[..., self.rows]
