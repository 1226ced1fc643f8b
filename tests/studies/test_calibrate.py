"""Calibration gives a device that the cost room understands."""

from __future__ import annotations

import json

import pytest
import torch

from patchscale.cost import Device, estimate, plan, step_time
from patchscale.errors import InputError
from patchscale.studies.calibrate import calibrate, rate


def test_measured_device_plans():
    device = calibrate(1.0, device=torch.device("cpu"), name="mine")
    assert set(device.peak_flops) == {"float32", "bfloat16"}
    assert all(value > 1e8 for value in [*device.peak_flops.values(), device.bandwidth, device.memory_bytes])
    assert all(0 < value < 2 for value in device.efficiency.values())
    assert device.is_cpu
    again = Device(**json.loads(json.dumps(device.to_dict())))
    assert again == device
    cost = estimate("deit_nano_patch16", input_size=64, patch_size=8)
    assert step_time(cost, again, batch_size=16).step > 0
    assert plan(again, data_size=1000, budget_hours=1).configurations[0].model


def test_rate_is_work_over_time():
    calls = []
    assert rate(1e6, lambda: calls.append(1), 0.01, torch.device("cpu")) > 1e6
    assert len(calls) > 3


def test_no_time_is_an_error():
    with pytest.raises(InputError, match="seconds 0 is not positive"):
        calibrate(0)
