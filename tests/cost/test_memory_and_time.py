"""Memory and time: their parts add up, limits hold, and table 6 is met."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchscale.cost import (
    DEVICES,
    SHAPES,
    TokenReduction,
    activation_memory,
    device_of,
    estimate,
    largest_batch,
    overhead_table,
    step_time,
    training_memory,
)
from patchscale.cost.placement import place, usable_memory
from patchscale.errors import InputError


def test_table_6_memory_within_10_percent_and_hours_within_12():
    rows = overhead_table()
    assert len(rows) == 15
    for row in rows:
        limit = 0.10 if row["quantity"] == "memory_mb_per_image" else 0.12
        assert abs(row["error"]) < limit, row


@given(
    name=st.sampled_from(sorted(SHAPES)),
    patch_size=st.sampled_from([4, 8, 16]),
    precision=st.sampled_from(["float32", "bfloat16"]),
    ssd=st.sampled_from(["lean", "torch", "fused"]),
    batch_size=st.integers(1, 64),
)
@settings(deadline=None, max_examples=60)
def test_memory_orders(name, patch_size, precision, ssd, batch_size):
    cost = estimate(name, input_size=64, patch_size=patch_size)
    options = {"precision": precision, "ssd": ssd}
    full = training_memory(cost, batch_size=batch_size, **options)
    less = training_memory(cost, batch_size=batch_size, recompute=True, **options)
    assert less.peak <= full.peak
    assert full.activations.kept == full.activations.patch_embed + full.activations.blocks + full.activations.head
    assert training_memory(cost, batch_size=batch_size + 1, **options).peak >= full.peak
    assert training_memory(cost, batch_size=batch_size, average=True, **options).peak == full.peak + 4 * cost.params
    fits = largest_batch(cost, full.peak, **options)
    assert fits >= batch_size
    assert training_memory(cost, batch_size=fits, **options).peak <= full.peak
    json.dumps(full.to_dict())


@pytest.mark.parametrize(("accumulation", "gpus", "copies"), [(1, 1, 0), (2, 1, 1), (9, 1, 1), (1, 2, 1), (4, 8, 2)])
@pytest.mark.parametrize("name", ["deit_base_patch16", "adventurer_base_patch16"])
def test_gradients_that_outlive_a_pass_stand_beside_the_activations(name, accumulation, gpus, copies):
    cost = estimate(name, input_size=224)
    needed = training_memory(cost, batch_size=8, accumulation=accumulation, gpus=gpus)
    kept = needed.activations
    start = 8 * (kept.kept + kept.transient) + copies * 4 * cost.params
    end = 8 * (kept.patch_embed + kept.block + kept.transient) + max(1, copies) * 4 * cost.params
    assert needed.peak == needed.weights + needed.optimizer + max(start, end)


@pytest.mark.parametrize("gpus", [1, 8])
def test_a_batch_that_is_accumulated_leaves_room_for_its_gradients(gpus):
    cost = estimate("adventurer_huge_patch16", input_size=224, patch_size=2)
    limit = usable_memory(device_of("rtx4090"), None)
    found = place(cost, device_of("rtx4090"), gpus=gpus, batch_size=4096, limit=limit)
    assert found.accumulation > 1
    assert found.memory == training_memory(
        cost,
        batch_size=found.batch_per_pass,
        recompute=found.recompute,
        accumulation=found.accumulation,
        gpus=gpus,
    )
    assert found.fits == (found.memory.peak <= limit)
    alone = training_memory(cost, batch_size=found.batch_per_pass, recompute=found.recompute)
    assert found.memory.peak > alone.peak + 2 * 2**30


def test_a_batch_of_one_pass_needs_no_such_room():
    cost = estimate("deit_base_patch16", input_size=224)
    limit = training_memory(cost, batch_size=64).peak
    found = place(cost, device_of("a100"), gpus=1, batch_size=64, limit=limit)
    assert (found.accumulation, found.memory.peak) == (1, limit)
    more = place(cost, device_of("a100"), gpus=1, batch_size=128, limit=limit)
    assert more.accumulation > 2
    assert more.memory.peak <= limit


def test_fused_kernels_keep_less():
    adventurer = estimate("adventurer_base_patch16", input_size=224, patch_size=4)
    deit = estimate("deit_base_patch16", input_size=224, patch_size=4)
    assert activation_memory(adventurer, ssd="fused").kept < 0.7 * activation_memory(adventurer, ssd="torch").kept
    assert activation_memory(deit, attention="unfused").kept > 3 * activation_memory(deit).kept


def test_fewer_tokens_need_less_memory_until_choosing_is_what_takes_it():
    def peak(reducer: str, kept: int, before: int = 0) -> int:
        reduction = TokenReduction(reducer, kept, before)
        cost = estimate("deit_base_patch16", input_size=224, patch_size=8, reduction=reduction)
        return training_memory(cost, batch_size=8).peak

    full = training_memory(estimate("deit_base_patch16", input_size=224, patch_size=8), batch_size=8).peak
    peaks = [peak("random", kept) for kept in (49, 196, 784)]
    assert peaks == sorted(peaks)
    assert peaks[0] < peaks[1] < peaks[2] <= full * 1.01
    assert peak("random", 196, before=6) > 1.4 * peak("random", 196)
    tiny = estimate("deit_pico_patch16", input_size=224, patch_size=2, reduction=TokenReduction("tome", 16))
    kept = activation_memory(tiny)
    similarities = 4 * 6272 * 6272
    assert kept.choosing > similarities > 100 * kept.blocks
    assert training_memory(tiny, batch_size=4).peak > 4 * similarities


def test_no_batch_fits_when_weights_do_not():
    assert largest_batch(estimate("deit_huge_patch16", input_size=224), 2**30) == 0


@pytest.mark.parametrize("device", sorted(DEVICES))
def test_step_time_grows_with_work_and_shrinks_with_devices(device):
    coarse, fine = (estimate("deit_base_patch16", input_size=224, patch_size=p) for p in (16, 8))
    one = step_time(coarse, device_of(device), batch_size=64)
    assert step_time(fine, device_of(device), batch_size=64).step > one.step
    assert step_time(coarse, device_of(device), batch_size=64, recompute=True).step > one.step
    eight = step_time(coarse, device_of(device), batch_size=64, gpus=8)
    assert one.step / 8 <= eight.step * (1 + 1e-9)
    assert eight.step < one.step
    assert 0 < one.mfu <= 1
    json.dumps(one.to_dict() | device_of(device).to_dict())


def test_narrow_links_are_what_binds():
    cost = estimate("deit_huge_patch16", input_size=64)
    step = step_time(cost, device_of("rtx4090"), batch_size=16, gpus=16)
    assert step.bound == "communication"
    assert step.step < step.communication + max(step.compute, step.traffic)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda cost: device_of("h1000"), "unknown device 'h1000'; use one of h100"),
        (lambda cost: activation_memory(cost, precision="int4"), "unknown precision 'int4'"),
        (lambda cost: activation_memory(cost, ssd="mamba"), "unknown ssd 'mamba'; use one of lean, torch, fused"),
        (lambda cost: training_memory(cost, batch_size=0), "batch_size 0 is not positive"),
        (lambda cost: training_memory(cost, batch_size=1, accumulation=0), "accumulation 0 is not positive"),
        (lambda cost: training_memory(cost, batch_size=1, gpus=0), "gpus 0 is not positive"),
        (lambda cost: step_time(cost, device_of("a100"), batch_size=2, gpus=4), "batch_size 2 on 4 devices"),
        (
            lambda cost: step_time(cost, device_of("cpu"), batch_size=2, precision="bfloat16"),
            "cpu has no bfloat16 peak",
        ),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(InputError, match=message):
        call(estimate("deit_tiny_patch16", input_size=64))
