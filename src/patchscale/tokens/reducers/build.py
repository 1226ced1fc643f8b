"""Reducers by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

from patchscale.errors import InputError
from patchscale.tokens.reducers.base import Reducer
from patchscale.tokens.reducers.choose import RandomChoice, TopScores
from patchscale.tokens.reducers.filtering import Filtering, ReleasedFiltering, SoftMoE
from patchscale.tokens.reducers.merge import GridPool, KMeans, ToMe, VisionZip
from patchscale.tokens.reducers.pivoted_qr import PivotedQR

FREE: dict[str, Callable[..., Reducer]] = {
    "random": RandomChoice,
    "pool": GridPool,
    "attention": TopScores,
    "tome": ToMe,
    "kmeans": KMeans,
    "visionzip": VisionZip,
    "qr": PivotedQR,
}
"""Reducers without parameters."""

LEARNED: dict[str, Callable[..., Reducer]] = {
    "filtering": Filtering,
    "filtering_released": ReleasedFiltering,
    "soft_moe": SoftMoE,
}
"""Reducers with parameters; they take the width and the number of slots."""

REDUCERS = (*FREE, *LEARNED)


def build_reducer(name: str, *, dim: int, slots: int, **options: Any) -> Reducer:
    """The reducer called `name`.

    Args:
        dim: width D of the tokens.
        slots: K, the largest one that will be asked for.
        **options: of the reducer's constructor, such as `tolerance` of "qr".

    Raises:
        InputError: no such reducer, or options it does not take.
    """
    if name not in REDUCERS:
        close = difflib.get_close_matches(name, REDUCERS, n=2, cutoff=0.5)
        raise InputError(f"unknown reducer {name!r}; use one of {', '.join(close or REDUCERS)}")
    try:
        return LEARNED[name](dim, slots, **options) if name in LEARNED else FREE[name](**options)
    except TypeError as error:
        raise InputError(f"reducer {name} does not take these options: {error}") from error
