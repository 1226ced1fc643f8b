"""The greedy spanning set: tolerance held on every image, rank found, batch and padding without effect."""

from __future__ import annotations

import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchscale.errors import InputError
from patchscale.tokens.reducers import build_reducer, pivoted_qr
from patchscale.tokens.reducers.pivoted_qr import pivoted_gram
from tests.tokens.images import patches


def outside(tokens: torch.Tensor, rows: torch.Tensor) -> float:
    """Share of the energy of tokens [N, D] outside the span of rows [K, D], by a full QR in float64."""
    basis, _ = torch.linalg.qr(rows.double().T)
    left = tokens.double() - tokens.double() @ basis @ basis.T
    return (left.square().sum() / tokens.double().square().sum()).item()


def low_rank(batch: int, count: int, dim: int, rank: int) -> torch.Tensor:
    return torch.randn(batch, count, rank, dtype=torch.float64) @ torch.randn(batch, rank, dim, dtype=torch.float64)


@pytest.mark.parametrize("tolerance", [0.3, 0.05, 1e-3])
def test_residual_is_within_the_tolerance_on_every_real_image(real_data, tolerance):
    tokens = patches(real_data, 24)
    found = build_reducer("qr", dim=48, slots=64, tolerance=tolerance, window=64)(tokens, 64)
    counts = found.counts.tolist()
    assert len(set(counts)) > 3, "images of different complexity keep different numbers"
    for i, count in enumerate(counts):
        assert outside(tokens[i], found.tokens[i, :count]) <= tolerance * (1 + 1e-4)
        pivots = pivoted_qr(tokens[i : i + 1], 64, tolerance)
        assert outside(tokens[i], tokens[i, pivots.index[0, : count - 1]]) > tolerance * (1 - 1e-4), "none too many"


@settings(deadline=None, max_examples=20)
@given(rank=st.integers(1, 12), count=st.integers(13, 40))
def test_count_is_the_rank_of_low_rank_tokens(rank, count):
    tokens = low_rank(3, count, 24, rank)
    found = build_reducer("qr", dim=24, slots=count, tolerance=1e-16, window=count)(tokens, count)
    assert found.counts.tolist() == [rank] * 3


def test_batched_equals_one_by_one(real_data):
    tokens = patches(real_data, 12).double()
    reducer = build_reducer("qr", dim=48, slots=64, tolerance=0.05, window=64)
    together = reducer(tokens, 64)
    assert together.mask is not None
    for i, count in enumerate(together.counts.tolist()):
        alone = reducer(tokens[i : i + 1], 64)
        assert alone.mask is None
        assert torch.equal(together.source[i, :count], alone.source[0])
        assert torch.equal(together.assignment[i], alone.assignment[0])
        torch.testing.assert_close(together.tokens[i, :count], alone.tokens[0])
        assert (together.tokens[i, count:] == 0).all()
        assert (together.source[i, count:] == -1).all()


def test_span_and_order_are_those_of_scipys_pivoted_qr(real_data):
    tokens = patches(real_data, 6).double()
    found = pivoted_qr(tokens, 20)
    for i in range(6):
        _, r, order = scipy.linalg.qr(tokens[i].numpy().T, mode="economic", pivoting=True)
        assert found.index[i].tolist() == order[:20].tolist()
        torch.testing.assert_close(found.heights[i], torch.from_numpy(r.diagonal()[:20] ** 2))
        chosen = tokens[i, order[:20].tolist()]
        assert outside(chosen, found.basis[i]) < 1e-20
        assert outside(tokens[i], found.basis[i]) == pytest.approx(found.residual[i, -1].item(), rel=1e-9)


@pytest.mark.parametrize("tolerance", [None, 0.02])
def test_the_fast_form_chooses_as_the_plain_one(real_data, tolerance):
    tokens = patches(real_data, 12)
    valid = torch.arange(64).expand(12, 64) < torch.arange(41, 65, 2)[:, None]
    tokens = tokens * valid[..., None]
    plain, fast = pivoted_qr(tokens.double(), 30, tolerance, valid), pivoted_gram(tokens, 30, tolerance, valid)
    assert torch.equal(plain.index, fast.index)
    torch.testing.assert_close(plain.heights, fast.heights)
    torch.testing.assert_close(plain.residual, fast.residual)


def test_without_tolerance_exactly_k_even_of_equal_tokens():
    tokens = torch.ones(2, 10, 4)
    found = build_reducer("qr", dim=4, slots=6, window=10)(tokens, 6)
    assert found.mask is None
    assert all(len(set(row)) == 6 for row in found.source.tolist())


def test_k_tokens_of_fewer_dimensions_are_still_k():
    """Past the rank only rounding is left, which must neither be divided by nor dropped as padding."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, 60, 3, generator=generator) @ torch.randn(2, 3, 48, generator=generator)
    tokens[0, 30:] = 0
    found = pivoted_gram(tokens, 50)
    assert found.heights.isfinite().all()
    assert [len(set(row)) for row in found.index.tolist()] == [50, 50]
    assert (found.residual[:, 3:] < 1e-10).all()
    kept = build_reducer("qr", dim=48, slots=40)(tokens, 40)
    assert kept.mask is None
    assert kept.source.shape == (2, 40)


def test_blank_image_keeps_one_token():
    for window in (None, 3):
        found = build_reducer("qr", dim=4, slots=6, tolerance=0.1, window=window)(torch.zeros(2, 10, 4), 10)
        assert found.counts.tolist() == [1, 1]
        assert (found.assignment == 0).all()


class TestWindows:
    def test_more_tokens_than_the_width_use_windows_and_hold_the_tolerance(self):
        tokens = torch.randn(2, 50, 12, dtype=torch.float64)
        found = build_reducer("qr", dim=12, slots=50, tolerance=0.05)(tokens, 50)
        for i, count in enumerate(found.counts.tolist()):
            assert count > 12
            for first in range(0, 50, 10):
                inside = (found.source[i] >= first) & (found.source[i] < first + 10)
                assert outside(tokens[i, first : first + 10], found.tokens[i, inside]) <= 0.05 + 1e-9

    def test_tokens_belong_to_their_own_window(self):
        tokens = torch.randn(2, 45, 12)
        found = build_reducer("qr", dim=12, slots=20)(tokens, 20)
        assert found.tokens.shape == (2, 20, 12)
        window = found.source.gather(1, found.assignment) // 12  # 45 = 3 x 12 + 9
        assert torch.equal(window, (torch.arange(45) // 12).expand(2, 45))

    def test_windows_are_of_equal_size(self):
        found = build_reducer("qr", dim=12, slots=13)(torch.randn(1, 13, 12), 7)
        window = found.source.gather(1, found.assignment) // 7
        assert torch.equal(window, (torch.arange(13) // 7)[None])

    def test_budget_goes_where_the_energy_is(self):
        tokens = 0.01 * torch.randn(1, 40, 10)
        tokens[:, 20:30] = torch.randn(1, 10, 10)
        found = build_reducer("qr", dim=10, slots=8, window=10)(tokens, 8)
        assert ((found.source >= 20) & (found.source < 30)).all()


def test_options_are_checked():
    with pytest.raises(InputError, match="tolerance 1 is not a share of energy"):
        build_reducer("qr", dim=4, slots=2, tolerance=1)
    with pytest.raises(InputError, match="window 0 is not a number of tokens"):
        build_reducer("qr", dim=4, slots=2, window=0)
