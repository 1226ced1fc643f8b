"""Counter-based random numbers: a draw is a pure function of its keys, the same on every machine and numpy version.

The mixing function is SplitMix64 (Steele, Lea and Flood, 2014), folded over the keys.
"""

from __future__ import annotations

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def draw(*keys: int | np.ndarray) -> np.ndarray:
    """64 random bits for every combination of the keys.

    Args:
        keys: integers or integer arrays, broadcast against each other.

    Returns:
        uint64 array of the broadcast shape (one element for plain integers).
    """
    state = np.zeros(1, dtype=np.uint64)
    for key in keys:
        if isinstance(key, np.ndarray):
            bits = key.astype(np.uint64)
        else:
            bits = np.full(1, int(key) & 0xFFFFFFFFFFFFFFFF, dtype=np.uint64)
        state = _splitmix(state ^ _splitmix(bits))
    return state


def below(bits: np.ndarray, bound: int | np.ndarray) -> np.ndarray:
    """Maps random bits to integers 0 .. bound - 1 (bound at most 2^32), as int64."""
    high = bits >> np.uint64(32)
    return ((high * np.asarray(bound).astype(np.uint64)) >> np.uint64(32)).astype(np.int64)


def unit(bits: np.ndarray) -> np.ndarray:
    """Maps random bits to float64 in [0, 1), exactly representable."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _splitmix(state: np.ndarray) -> np.ndarray:
    state = state + _GOLDEN
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))
