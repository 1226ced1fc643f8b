"""The theory of vision tokens: limits and identities for any cosines, and the distance of Gaussian sequences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchscale.errors import InputError
from patchscale.laws import vlm_theory as theory

cosines = st.tuples(
    st.floats(-0.5, 0.99), st.floats(0.05, 0.95), st.floats(0.01, 0.9)
).map(lambda values: (values[0], values[1], values[1] - values[2]))  # fmt: skip
counts = st.integers(1, 5000)
betas = st.floats(0.01, 4)
scales = st.floats(0, 1e4)


@settings(deadline=None, max_examples=40)
@given(cosines, counts)
def test_upsilon_is_delta_n_times_n_plus_n_b(psi, n):
    delta = psi[1] - psi[2]
    expected = delta * n * (n + theory.token_scale(*psi))
    assert theory.upsilon(n, *psi) == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert theory.upsilon(1, *psi) == pytest.approx(1 - psi[0])
    assert theory.expected_distance(n, *psi, norm=3.0) == pytest.approx(3 * np.sqrt(2 * max(0, expected)), rel=1e-9)


@settings(deadline=None, max_examples=40)
@given(cosines)
def test_the_two_terms_are_equal_two_tokens_beyond_n_b(psi):
    n = theory.equal_terms(*psi)
    assert n * (1 - psi[0]) == pytest.approx((n**2 - n) * (psi[1] - psi[2]), rel=1e-9)
    assert n == pytest.approx(theory.token_scale(*psi) + 2)


@settings(deadline=None, max_examples=40)
@given(counts, betas, scales, st.floats(0.1, 100))
def test_closed_form_is_c_over_n_to_alpha(n, beta, n_b, c):
    alpha = theory.token_exponent(n, beta, n_b)
    assert theory.token_score(n, c, n_b, beta) == pytest.approx(c / n**alpha, rel=1e-9)
    assert theory.token_score(1, c, n_b, beta) == pytest.approx(c)
    assert -beta - 1e-12 <= alpha <= -beta / 2 + 1e-12


@settings(deadline=None, max_examples=40)
@given(betas, st.floats(0, 1e3))
def test_alpha_is_continuous_at_one_and_ends_at_minus_beta(beta, n_b):
    at_one = -(beta / 2) * (1 + 1 / (1 + n_b))
    assert theory.token_exponent(1, beta, n_b) == pytest.approx(at_one)
    for step in (1e-9, 1e-6):
        assert theory.token_exponent(1 + step, beta, n_b) == pytest.approx(at_one, rel=1e-5)
    assert theory.token_exponent(1e300, beta, n_b) == pytest.approx(-beta, rel=0.01)


@settings(deadline=None, max_examples=40)
@given(counts, betas, scales)
def test_slope_is_the_derivative_and_rises(n, beta, n_b):
    step = 1e-5
    ends = [np.log(theory.token_score(n * np.exp(sign * step), 2.0, n_b, beta)) for sign in (-1, 1)]
    assert (ends[1] - ends[0]) / (2 * step) == pytest.approx(theory.token_slope(n, beta, n_b), rel=1e-4)
    slopes = theory.token_slope(np.geomspace(1, 1e6, 40), beta, n_b)
    assert (np.diff(slopes) >= -1e-12).all()
    assert slopes[0] >= beta / 2 - 1e-12
    assert slopes[-1] <= beta + 1e-12


def test_without_a_linear_regime():
    assert (theory.token_exponent([1, 8, 768], 0.4, np.inf) == -0.2).all()
    with pytest.raises(InputError, match="not positive"):
        theory.token_scale(0.3, 0.5, 0.5)
    assert theory.regime(3, 12) == "sublinear"
    assert theory.regime(13, 12) == "linear"


def test_published_alpha_curves_start_and_end_where_they_are_drawn():
    for n_b in np.linspace(2, 20, 6):
        alpha = theory.token_exponent(np.arange(1, 51), 1.0, n_b)
        assert alpha[0] == pytest.approx(-0.5 * (1 + 1 / (1 + n_b)))
        assert -1 < alpha[-1] < alpha[1] < -0.5


def test_scale_of_distances_that_follow_the_bound():
    bound = np.sqrt(theory.upsilon(np.arange(1, 30), 0.2, 0.9, 0.1))
    assert theory.distance_scale(1.7 * bound, bound) == pytest.approx(1.7)
    with pytest.raises(InputError, match="one bound"):
        theory.distance_scale([1, 2], [1])


def gaussian(generator, samples, n, dim, psi_eq, psi_same, psi_cross):
    """Two branches [samples, n, dim] of unit variance with the three correlations, from four independent parts."""
    shared, branch = generator.normal(size=(samples, 1, dim)), generator.normal(size=(2, samples, 1, dim))
    place, own = generator.normal(size=(samples, n, dim)), generator.normal(size=(2, samples, n, dim))
    weights = [psi_cross, psi_same - psi_cross, psi_eq - psi_cross, 1 - psi_same - psi_eq + psi_cross]
    parts = (shared[None], branch, place[None], own)
    return sum(np.sqrt(weight) * part for weight, part in zip(weights, parts, strict=True))


@pytest.mark.parametrize("psi", [(0.3, 0.6, 0.1), (0.5, 0.45, 0.4), (0.2, 0.2, 0.2)])
def test_distance_of_gaussian_sequences_is_that_of_the_theory(psi):
    n, dim, samples = 24, 16, 400
    first, second = gaussian(np.random.default_rng(0), samples, n, dim, *psi)
    distance = np.linalg.norm(np.cumsum(first - second, axis=1), axis=2)
    squares = distance**2
    expected = theory.expected_distance(np.arange(1, n + 1), *psi, norm=np.sqrt(dim))
    error = squares.std(0) / np.sqrt(samples)
    assert (np.abs(squares.mean(0) - expected**2) < 5 * error).all()
    chi = np.sqrt(2 / dim) * math.gamma((dim + 1) / 2) / math.gamma(dim / 2)
    error = distance.std(0) / np.sqrt(samples)
    assert (np.abs(distance.mean(0) - chi * expected) < 5 * error).all()
