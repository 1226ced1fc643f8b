"""Figures of the theory of vision tokens draw its functions, and a measurement beside its fitted bound."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import torch

from patchscale.laws import vlm_theory as theory
from patchscale.report.theme import matplotlib_style
from patchscale.report.token_theory import alpha_figure, bound_figure, divergence_figure, main
from patchscale.tasks.captioning.divergence import divergence


def test_lines_are_the_functions(tmp_path):
    with matplotlib.rc_context(matplotlib_style()):
        alpha, bound = alpha_figure().axes[0], bound_figure().axes[0]
    first = alpha.lines[0]
    assert first.get_ydata()[0] == pytest.approx(-0.5 * (1 + 1 / 3))
    assert bound.lines[0].get_ydata()[0] == pytest.approx(np.sqrt(0.3))
    assert {path.name for path in main(tmp_path)} == {
        "vlm_bound.svg", "vlm_bound.png", "vlm_alpha.svg", "vlm_alpha.png",
    }  # fmt: skip


def test_a_measurement_is_drawn_beside_the_bound():
    generator = torch.Generator().manual_seed(0)
    measured = divergence(*torch.randn(2, 20, 9, 16, generator=generator))
    with matplotlib.rc_context(matplotlib_style()):
        panels = divergence_figure(measured).axes
    drawn = {line.get_label(): line.get_ydata() for line in panels[1].lines}
    assert drawn["E[D(n)]"] == pytest.approx(measured.distance)
    scale = theory.distance_scale(measured.distance, measured.bound)
    assert any(np.allclose(values, scale * measured.bound) for values in drawn.values())
