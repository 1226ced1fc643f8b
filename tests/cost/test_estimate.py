"""Exact counts: the published sizes, torch's own FLOP counter, and a hand count of the SSD."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from patchscale.cost import SHAPES, estimate, shape_of
from patchscale.errors import InputError

SIZES = ("tiny", "small", "base", "large", "huge")


@pytest.mark.parametrize(
    ("family", "millions"),
    [("deit", (5.72, 22.05, 86.57, 304.33, 632.20)), ("adventurer", (11.61, 44.49, 98.66, 346.20, 718.03))],
)
def test_parameters_equal_the_exact_published_counts(family, millions):
    counts = [estimate(f"{family}_{size}_patch16", input_size=224).params / 1e6 for size in SIZES]
    assert [round(count, 2) for count in counts] == list(millions)


@pytest.mark.parametrize(("patch_size", "millions"), [(4, 100.4), (2, 107.6), (1, 136.5)])
def test_adventurer_base_grows_by_its_positions_alone(patch_size, millions):
    cost = estimate("adventurer_base_patch16", input_size=224, patch_size=patch_size)
    assert round(cost.params / 1e6, 1) == millions
    assert cost.params - cost.params_without_positions == (cost.tokens + 1) * 768


def test_ssd_term_is_the_recurrence_counted_by_hand():
    """Two rows of pixels, counted by walking the recurrence: one addition or multiplication at a time."""
    cost = estimate("adventurer_pico_patch16", input_size=(16, 32), patch_size=16)
    heads, headdim, state, operations = 2, 64, 64, 0
    for _row in range(cost.tokens + 2):
        for _head in range(heads):
            operations += headdim  # dt x
            operations += headdim * state  # a h
            operations += 2 * headdim * state  # + u B^T
            operations += 2 * headdim * state  # h C
            operations += 2 * headdim  # + D x
    ssd = next(term for term in cost.terms if term.name == "ssd")
    assert ssd.flops == operations * shape_of("adventurer_pico_patch16").depth


@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    patch_size=st.integers(1, 6),
    name=st.sampled_from(sorted(SHAPES)),
)
@settings(deadline=None, max_examples=60)
def test_counts_for_any_rectangle(height, width, patch_size, name):
    cost = estimate(name, input_size=(height * patch_size, width * patch_size), patch_size=patch_size)
    assert cost.tokens == height * width
    assert cost.params == sum(term.params for term in cost.terms)
    assert cost.flops_train == 3 * cost.flops_forward
    assert cost.to_dict() == json.loads(json.dumps(cost.to_dict()))
    turned = estimate(name, input_size=(width * patch_size, height * patch_size), patch_size=patch_size)
    assert (turned.params, turned.flops_forward) == (cost.params, cost.flops_forward)


def test_attention_is_quadratic_and_ssd_linear():
    def flops(model, patch_size):
        return estimate(model, input_size=224, patch_size=patch_size).flops_forward

    assert flops("deit_base_patch16", 1) / flops("deit_base_patch16", 2) > 12
    assert flops("adventurer_base_patch16", 1) / flops("adventurer_base_patch16", 2) == pytest.approx(4, rel=0.01)


def test_linear_decoder_reads_every_token():
    token, dense = (estimate("deit_tiny_patch16", input_size=64, num_classes=7, decoder=d) for d in (None, "linear"))
    assert dense.flops_forward - token.flops_forward == (dense.tokens - 1) * 2 * 192 * 7
    assert dense.params == token.params


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"input_size": 32, "patch_size": 5},
            "patch_size 5 does not divide image height 32; use one of 1, 2, 4, 8, 16, 32",
        ),
        ({"input_size": (32, 20), "patch_size": 16}, "does not divide image width 20"),
        ({"input_size": 0}, "input_size 0x0 is not positive"),
        ({"input_size": 32, "patch_size": 0}, "patch_size 0 is not positive"),
        ({"input_size": 32, "decoder": "upper"}, "unknown decoder 'upper'"),
        ({"input_size": 32, "num_classes": -1}, "num_classes -1"),
    ],
)
def test_bad_input_is_one_clear_line(arguments, message):
    with pytest.raises(InputError, match=message):
        estimate("deit_tiny_patch16", **arguments)


def test_unknown_model_names_close_ones():
    with pytest.raises(InputError, match="deit_tiny_patch16"):
        estimate("deit_tyni_patch16", input_size=224)


def test_no_torch_is_loaded():
    count = "patchscale.cost.estimate('deit_tiny_patch16', input_size=64)"
    code = f"import sys, patchscale.cost; {count}; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"
