"""Colours can be told apart by everyone, and read on their ground."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from patchscale.report.theme import DARK, LIGHT, PROVENANCE, log_ticks, shades

VISION = {  # Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
    "normal": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    x, y, z = np.cbrt(XYZ @ np.clip(rgb, 0, 1) / np.array([0.9505, 1, 1.089]))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(a: str, b: str) -> float:
    low, high = sorted(float(XYZ[1] @ linear(colour)) for colour in (a, b))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("kind", VISION)
def test_provenance_colours_stay_apart(palette, kind):
    seen = [lab(np.array(VISION[kind]) @ linear(palette[name])) for name in PROVENANCE]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 25


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_marks_have_contrast(palette):
    for ground in ("page", "panel"):
        assert contrast(palette["ink"], palette[ground]) > 7
        assert contrast(palette["soft"], palette[ground]) > 4.5
    assert contrast(palette["predicted"], palette["page"]) > 4.5  # formulas are text
    marks = [palette[name] for name in PROVENANCE] + shades(8, palette)
    assert min(contrast(colour, palette["page"]) for colour in marks) > 2.4


def test_shades_run_from_coarse_to_fine():
    assert shades(1, LIGHT) == [LIGHT["measured"]]
    ramp = shades(5, LIGHT)
    assert (ramp[0], ramp[2], ramp[-1]) == (LIGHT["coarse"], LIGHT["measured"], LIGHT["fine"])
    ink = [contrast(colour, LIGHT["page"]) for colour in ramp]
    assert ink == sorted(ink)


@pytest.mark.parametrize(("low", "high"), [(1.2, 1.9), (0.36, 2.5), (1, 50176), (1e9, 3e15), (0.98, 1.01)])
def test_log_ticks_are_few_round_and_inside(low, high):
    ticks = log_ticks(low, high)
    assert 2 <= len(ticks) <= 10
    assert all(low <= tick <= high for tick in ticks)
    assert all(float(f"{tick:.3g}") == pytest.approx(tick, rel=1e-9) for tick in ticks)
