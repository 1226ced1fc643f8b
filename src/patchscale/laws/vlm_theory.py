"""The theory of vision-token scaling (2412.18387, JMLR 26(253)): score against the number n of vision tokens.

Two inputs that differ in n tokens are n tokens' worth apart in hidden space: E[D(n)] = O(sqrt(Upsilon(n))). Cosine
similarities of hidden states: psi_eq same position, different input; psi_same same input, different positions;
psi_cross different inputs and positions; Delta = psi_same - psi_cross. The score is a power of the distance.

Assumed: norms do not depend on position or input and are uncorrelated with the cosines; the cosines do not change with
n (for `token_exponent` and `token_score`); Delta and n_b are not negative; the score is a power of E[D] whose exponent
beta is constant, which nobody has tested.
"""

from __future__ import annotations

import numpy as np

from patchscale.errors import InputError
from patchscale.laws.forms import Form, Parameter, register


def upsilon(n, psi_eq, psi_same, psi_cross) -> np.ndarray:
    """Upsilon(n) = n (1 - psi_eq) + (n^2 - n) (psi_same - psi_cross); E[D(n)^2] = 2 r^2 Upsilon(n) for norm r.

    The cosines are numbers, or arrays with a value for each n.
    """
    n = np.asarray(n, dtype=float)
    return n * (1 - psi_eq) + (n**2 - n) * (psi_same - psi_cross)


def token_scale(psi_eq: float, psi_same: float, psi_cross: float) -> float:
    """n_b = (1 - psi_eq) / Delta - 1, so that Upsilon(n) = Delta n (n + n_b).

    Mind the sign: the two terms of Upsilon are equal at n = (1 - psi_eq) / Delta + 1, which is n_b + 2, not n_b.

    Raises:
        InputError: Delta is not positive (then there is no linear regime and n_b is infinite).
    """
    delta = psi_same - psi_cross
    if delta <= 0:
        raise InputError(f"psi_same - psi_cross = {delta:g} is not positive; there is no linear regime and no n_b")
    return (1 - psi_eq) / delta - 1


def expected_distance(n, psi_eq, psi_same, psi_cross, norm: float = 1.0) -> np.ndarray:
    """sqrt(E[D(n)^2]) = norm sqrt(2 Upsilon(n)), at least E[D(n)] by Jensen: the bound whose scale is sqrt(2) norm."""
    return norm * np.sqrt(2 * upsilon(n, psi_eq, psi_same, psi_cross))


def distance_scale(distance, bound) -> float:
    """The scale lambda that brings lambda sqrt(Upsilon(n)) nearest to measured distances, by least squares.

    Args:
        distance: E[D(n)] at each n.
        bound: sqrt(Upsilon(n)) at the same n.

    Raises:
        InputError: arrays of different lengths, or a bound that is zero everywhere.
    """
    distance, bound = np.asarray(distance, dtype=float), np.asarray(bound, dtype=float)
    if distance.shape != bound.shape or not np.any(bound):
        raise InputError(f"{distance.size} distances and {bound.size} bounds; give one bound, not all zero, for each")
    return float(distance @ bound / (bound @ bound))


def equal_terms(psi_eq: float, psi_same: float, psi_cross: float) -> float:
    """n at which the two terms of Upsilon are equal, (1 - psi_eq) / Delta + 1 = n_b + 2."""
    return token_scale(psi_eq, psi_same, psi_cross) + 2


def regime(n: float, n_b: float) -> str:
    """ "sublinear" for n below n_b, where E[D] grows as sqrt(n); "linear" above it."""
    return "sublinear" if n < n_b else "linear"


def token_slope(n, beta: float, n_b: float) -> np.ndarray:
    """d log S / d log n of `token_score`: (beta / 2)(1 + n / (n + n_b)), rising from near beta / 2 to beta."""
    n = np.asarray(n, dtype=float)
    return beta / 2 * (1 + n / (n + n_b))


def token_exponent(n, beta: float, n_b: float) -> np.ndarray:
    """alpha(n) of S(n) = c / n^alpha(n): (beta / 2) log_n[(1 + n_b) / (n + n_b)] - beta / 2, by continuity at n = 1.

    Without a linear regime (n_b infinite) it is -beta / 2 everywhere.
    """
    n = np.asarray(n, dtype=float)
    if np.isinf(n_b):
        return np.full_like(n, -beta / 2)
    one = n == 1.0
    growth = -np.log1p((n - 1) / (1 + n_b))
    ratio = np.where(one, -1 / (1 + n_b), growth / np.where(one, 1.0, np.log(n)))
    return beta / 2 * ratio - beta / 2


def token_score(n, c: float, n_b: float, beta: float) -> np.ndarray:
    """S(n) = c [n (n + n_b) / (1 + n_b)]^(beta / 2), S(1) = c; log-log slope rises from about beta / 2 to beta."""
    n = np.asarray(n, dtype=float)
    return c * (n * (n + n_b) / (1 + n_b)) ** (beta / 2)


def _vision_tokens(x, c, n_b, beta):
    return c * (x * (x + n_b) / (1 + n_b)) ** (beta / 2)


register(
    Form(
        "vision_tokens", _vision_tokens, ("x",),
        (Parameter("c", "score of one token", low=0.0, log=True),
         Parameter("n_b", "tokens where growth turns from sqrt to linear", low=0.0, log=True, search=(0.05, 1e4)),
         Parameter("beta", "power of the hidden distance", low=-20.0, high=20.0, search=(-0.5, 2.0))),
        linear=("c",), formula="{c} * ({x} * ({x} + {n_b}) / (1 + {n_b}))^({beta} / 2)",
        source="2412.18387 (JMLR 26(253)), its alpha(n) in closed form", domain="n >= 1; always convex in log-log",
    )
)  # fmt: skip
