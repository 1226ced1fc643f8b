"""Fewer tokens: every way to keep K of N rows, behind one call `reducer(tokens, keep) -> Reduced`.

`build_reducer(name, ...)` makes one; `REDUCERS` lists the names. `pivoted_qr` is the greedy spanning set by itself.
"""

from patchscale.tokens.reducers.auxiliary import auxiliary_loss
from patchscale.tokens.reducers.base import Reduced, Reducer, identity
from patchscale.tokens.reducers.build import REDUCERS, build_reducer
from patchscale.tokens.reducers.pivoted_qr import Pivots, pivoted_qr

__all__ = ["REDUCERS", "Pivots", "Reduced", "Reducer", "auxiliary_loss", "build_reducer", "identity", "pivoted_qr"]
