"""The mixer's recurrent form, and its rules at the start."""

import pytest
import torch

from patchscale.mixers import Mamba2


@pytest.mark.parametrize(("taps", "batch"), [(4, 2), (1, 1), (2, 3)])
def test_steps_equal_the_whole_sequence(taps, batch):
    torch.manual_seed(0)
    mixer = Mamba2(12, d_state=5, d_conv=taps, headdim=8).double()
    rows = torch.randn(batch, 11, 12, dtype=torch.float64)
    state, out = mixer.start(batch), []
    for row in rows.unbind(1):
        y, state = mixer.step(row, state)
        out.append(y)
    torch.testing.assert_close(torch.stack(out, 1), mixer(rows))
    assert state.rows.shape == (batch, taps - 1, 34)
    assert state.ssm.shape == (batch, 3, 8, 5)


def test_steps_of_bfloat16_weights_keep_a_float32_state():
    mixer = Mamba2(32, d_state=8, headdim=16).bfloat16()
    rows = torch.randn(1, 6, 32).bfloat16()
    state, out = mixer.start(1), []
    for row in rows.unbind(1):
        y, state = mixer.step(row, state)
        out.append(y)
    assert state.ssm.dtype == torch.float32
    whole = mixer(rows).float()
    assert (torch.stack(out, 1).float() - whole).norm() / whole.norm() < 0.03


def test_initial_dynamics():
    torch.manual_seed(0)
    mixer = Mamba2(1024)
    dt = torch.nn.functional.softplus(mixer.dt_bias)
    assert mixer.A_log.exp().min() >= 1
    assert mixer.A_log.exp().max() <= 16
    assert dt.min() >= 1e-4
    assert dt.max() <= 0.1 + 1e-6
    assert torch.equal(mixer.D, torch.ones(32))
