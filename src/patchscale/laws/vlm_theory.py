"""The theory of vision-token scaling (2412.18387, JMLR 26(253)): score against the number n of vision tokens.

Two inputs that differ in n tokens are n tokens' worth apart in hidden space: E[D(n)] = O(sqrt(Upsilon(n))). Cosine
similarities of hidden states: psi_eq same position, different input; psi_same same input, different positions;
psi_cross different inputs and positions; Delta = psi_same - psi_cross. The score is a power of the distance.
"""

from __future__ import annotations

import numpy as np

from patchscale.errors import InputError
from patchscale.laws.forms import Form, Parameter, register


def upsilon(n, psi_eq: float, psi_same: float, psi_cross: float) -> np.ndarray:
    """Upsilon(n) = n (1 - psi_eq) + (n^2 - n) (psi_same - psi_cross); E[D(n)^2] = 2 r^2 Upsilon(n) for norm r."""
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


def token_exponent(n, beta: float, n_b: float) -> np.ndarray:
    """alpha(n) of S(n) = c / n^alpha(n): (beta / 2) log_n[(1 + n_b) / (n + n_b)] - beta / 2, by continuity at n = 1."""
    n = np.asarray(n, dtype=float)
    log_n = np.log(n)
    one = np.isclose(n, 1.0)
    ratio = np.where(one, -1 / (1 + n_b), np.log((1 + n_b) / (n + n_b)) / np.where(one, 1.0, log_n))
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
