"""Stateless sampling: every image equally often, and a step depends on nothing before it."""

from __future__ import annotations

import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from timm.data.distributed_sampler import RepeatAugSampler

from patchscale.data import DataSpec, EpochSampler, RepeatSampler
from patchscale.errors import InputError


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


@pytest.mark.parametrize("make", [lambda: EpochSampler(3, 5, 4), lambda: RepeatSampler(9_000, 5, 4, 1_600, 0.5, 1_000)])
def test_two_threads_far_apart_get_the_batches_of_one(make):
    alone, shared, steps = make(), make(), range(1_600)
    expected = [alone.batch(step).tolist() for step in steps]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(2) as threads:
            halves = list(
                threads.map(lambda half: [shared.batch(step).tolist() for step in half], (steps[:800], steps[800:]))
            )
    finally:
        sys.setswitchinterval(interval)
    assert [batch for half in halves for batch in half] == expected


def test_epochs_and_seeds_are_shuffled_differently():
    sampler = EpochSampler(100, 0, 100)
    assert not torch.equal(sampler.batch(0), sampler.batch(1))
    assert not torch.equal(sampler.batch(0), EpochSampler(100, 1, 100).batch(0))
    assert [sampler.epoch(step) for step in (0, 1, 5)] == [0, 1, 5]


def test_the_order_of_a_seed_stays_the_same_between_versions():
    assert EpochSampler(10, 0, 10).batch(0).tolist() == [4, 1, 5, 6, 8, 9, 2, 0, 3, 7]


@settings(deadline=None, max_examples=40)
@given(n=st.integers(1, 30), batch=st.integers(1, 40), repeats=st.integers(1, 4), seed=st.integers(0, 2**32))
def test_repeats_are_those_of_timm_in_another_order(n, batch, repeats, seed):
    sampler, once = EpochSampler(n, seed, batch, repeats), EpochSampler(n, seed, 1)
    for step in range(-(-2 * n * repeats // batch)):
        places = [place // repeats for place in range(step * batch, (step + 1) * batch)]
        expected = [int(once.batch(place)) for place in places]
        assert sorted(sampler.batch(step).tolist()) == sorted(expected)


def test_a_pass_in_repeats_is_timm_s_before_it_drops_the_rest():
    timm_s = RepeatAugSampler(range(40), num_replicas=1, rank=0, num_repeats=3, selected_ratio=1 / 3)
    timm_s.set_epoch(5)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(5))
    sampler = EpochSampler(40, 0, 60, repeats=3)
    sampler._orders = {0: order}
    assert sorted(torch.cat([sampler.batch(0), sampler.batch(1)]).tolist()) == sorted(timm_s)


def test_neighbours_in_a_batch_are_different_images():
    sampler = EpochSampler(1000, 3, 256, repeats=3)
    for step in range(8):
        batch = sampler.batch(step)
        assert len(set(batch.tolist())) in (86, 87)
        assert (batch[1:] != batch[:-1]).all()


def test_nonsense_is_refused():
    with pytest.raises(ValueError, match="n=0"):
        EpochSampler(0, 0, 4)
    with pytest.raises(ValueError, match="repeats=0"):
        EpochSampler(4, 0, 4, repeats=0)
    with pytest.raises(ValueError, match="negative"):
        EpochSampler(4, 0, 4).batch(-1)


@settings(deadline=None, max_examples=60)
@given(
    batch=st.integers(1, 30), steps=st.integers(1, 30), fraction=st.floats(0.01, 1.0),
    repeats=st.integers(1, 50), spare=st.integers(0, 5), seed=st.integers(0, 2**32),
)  # fmt: skip
def test_the_subset_is_seen_r_times_and_all_others_once(batch, steps, fraction, repeats, spare, seed):
    total = batch * steps
    size = round(fraction * total) // repeats
    assume(size)
    different = size + total - size * repeats
    sampler = RepeatSampler(different + spare, seed, batch, steps, fraction, repeats)
    seen = torch.cat([sampler.batch(step) for step in range(steps)])
    counts = Counter(seen.tolist())
    assert (len(seen), len(counts)) == (total, different)
    assert {counts[image] for image in sampler.subset.tolist()} == {repeats}
    assert all(counts[image] == 1 for image in sampler.unique.tolist())
    assert seen[~torch.isin(seen, sampler.subset)].tolist() == sampler.unique.tolist()


def test_repeated_samples_come_in_passes_spread_evenly_over_training():
    sampler = RepeatSampler(1000, 3, 16, 50, 0.25, 20)
    assert len(sampler.subset) == 10
    repeated = torch.stack([torch.isin(sampler.batch(step), sampler.subset) for step in range(50)])
    assert (repeated.sum(1) == 4).all()
    order = torch.cat([sampler.batch(step) for step in range(50)])[repeated.flatten()].view(20, 10)
    assert (order.sort(1).values == sampler.subset.sort().values).all()
    assert not torch.equal(order[0], order[1])


def test_a_repeated_step_is_a_pure_function_of_seed_and_step():
    forward = RepeatSampler(500, 5, 8, 40, 0.3, 7)
    batches = [forward.batch(step) for step in range(40)]
    for step in (39, 3, 17, 0):
        assert torch.equal(RepeatSampler(500, 5, 8, 40, 0.3, 7).batch(step), batches[step])
        assert torch.equal(forward.batch(step), batches[step])
    assert not torch.equal(RepeatSampler(500, 6, 8, 40, 0.3, 7).batch(0), batches[0])


def test_smaller_subsets_are_part_of_larger_ones():
    many, few = (RepeatSampler(1000, 1, 10, 100, 0.2, repeats) for repeats in (2, 40))
    assert set(few.subset.tolist()) < set(many.subset.tolist())


def test_repetition_that_cannot_be_is_refused_with_the_numbers():
    with pytest.raises(InputError, match="sees 919 different images in 1,000 samples, but there are 900 training"):
        RepeatSampler(900, 0, 10, 100, 0.09, 10)
    with pytest.raises(InputError, match=r"repeats 101 is more than the 100 samples that repeat_fraction 0\.1 takes"):
        RepeatSampler(1000, 0, 10, 100, 0.1, 101)
    with pytest.raises(ValueError, match="step 100"):
        RepeatSampler(1000, 0, 10, 100, 0.1, 10).batch(100)
    with pytest.raises(ValidationError, match="repeats 3 of no sample; set repeat_fraction"):
        DataSpec(repeats=3)
