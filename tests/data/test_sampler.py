"""Stateless sampling: every image equally often, and a step depends on nothing before it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from patchscale.data import EpochSampler


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 50), batch=st.integers(1, 70), seed=st.integers(0, 2**32))
def test_batches_follow_each_other_through_whole_permutations(n, batch, seed):
    sampler = EpochSampler(n, seed, batch)
    steps = -(-3 * n // batch)
    stream = torch.cat([sampler.batch(step) for step in range(steps)])
    for epoch in range(len(stream) // n):
        assert sorted(stream[epoch * n : (epoch + 1) * n].tolist()) == list(range(n))


def test_a_step_is_a_pure_function_of_seed_and_step():
    forward = EpochSampler(37, 5, 8)
    batches = [forward.batch(step) for step in range(30)]
    for step in (29, 3, 17, 0):
        assert torch.equal(EpochSampler(37, 5, 8).batch(step), batches[step])
        assert torch.equal(forward.batch(step), batches[step])


def test_epochs_and_seeds_are_shuffled_differently():
    sampler = EpochSampler(100, 0, 100)
    assert not torch.equal(sampler.batch(0), sampler.batch(1))
    assert not torch.equal(sampler.batch(0), EpochSampler(100, 1, 100).batch(0))
    assert [sampler.epoch(step) for step in (0, 1, 5)] == [0, 1, 5]


def test_the_order_of_a_seed_stays_the_same_between_versions():
    assert EpochSampler(10, 0, 10).batch(0).tolist() == [4, 1, 5, 6, 8, 9, 2, 0, 3, 7]


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="n=0"):
        EpochSampler(0, 0, 4)
    with pytest.raises(ValueError, match="negative"):
        EpochSampler(4, 0, 4).batch(-1)
