"""Figures of the theory of vision tokens: the bound on the distance, alpha(n), and a measured divergence beside them.

`python -m patchscale.report.token_theory docs` writes the first two, vlm_bound and vlm_alpha, as SVG and PNG.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from patchscale.laws import vlm_theory as theory
from patchscale.report.figures import grid, save
from patchscale.report.theme import LIGHT, matplotlib_style, shades

if TYPE_CHECKING:
    from patchscale.tasks.captioning.divergence import Divergence

PSI_EQ, PSI_SAME = 0.7, 0.9
PSI_CROSS = (0.1, 0.3, 0.5, 0.7, 0.8, 0.9)
"""Cosines of the published drawing of the bound, as far as they can be read from it."""
SCALES = np.linspace(2, 20, 6)
"""n_b of the published drawing of alpha(n)."""


def bound_figure() -> Figure:
    """sqrt(Upsilon(n)) for several psi_cross; a dot at n_b, where growth turns from sqrt(n) to n."""
    figure, (axes,) = grid(1, height=2.6)
    tokens = np.geomspace(1, 256, 200)
    for cross, colour in zip(PSI_CROSS, shades(len(PSI_CROSS), LIGHT), strict=True):
        axes.plot(tokens, np.sqrt(theory.upsilon(tokens, PSI_EQ, PSI_SAME, cross)), color=colour, label=f"{cross:g}")
        if cross < PSI_SAME:
            turn = theory.token_scale(PSI_EQ, PSI_SAME, cross)
            if turn >= 1:
                axes.plot(turn, np.sqrt(theory.upsilon(turn, PSI_EQ, PSI_SAME, cross)), "o", color=colour, ms=4)
    axes.set(xscale="log", yscale="log", xlabel="vision tokens n", ylabel=r"$\sqrt{\Upsilon(n)}$")
    axes.legend(title=r"$\psi_{AB}$", ncols=2)
    axes.set_title(rf"$\psi_{{eq}}$ = {PSI_EQ:g}, $\psi_{{AA}}$ = {PSI_SAME:g}", loc="left")
    return figure


def alpha_figure() -> Figure:
    """alpha(n) in units of beta: from n = 1 by continuity towards -1, for several n_b."""
    figure, (axes,) = grid(1, height=2.6)
    tokens = np.linspace(1, 50, 400)
    for n_b, colour in zip(SCALES, shades(len(SCALES), LIGHT), strict=True):
        axes.plot(tokens, theory.token_exponent(tokens, 1.0, n_b), color=colour, label=f"{n_b:g}")
    for end in (-0.5, -1.0):
        axes.axhline(end, color=LIGHT["soft"], linewidth=0.7, linestyle="--")
    axes.set(xlabel="vision tokens n", ylabel=r"$\alpha(n)\,/\,\beta$")
    axes.legend(title="$n_b$", ncols=2)
    return figure


def divergence_figure(measured: Divergence) -> Figure:
    """Three panels of a measurement: cosines, E[D] with its spread and the fitted bound, n_b against n."""
    figure, panels = grid(3, height=2.4)
    tokens, later = measured.tokens, measured.tokens > 1
    colours = dict(zip(("psi_same", "psi_eq", "psi_cross"), shades(3, LIGHT), strict=True))
    names = {"psi_same": r"$\psi_{AA}$", "psi_eq": r"$\psi_{eq}$", "psi_cross": r"$\psi_{AB}$"}
    for name, colour in colours.items():
        shown = later if name != "psi_eq" else tokens > 0
        panels[0].plot(tokens[shown], getattr(measured, name)[shown], color=colour, label=names[name])
    panels[0].set(xlabel="n", ylabel="cosine")
    panels[0].legend()
    scale = theory.distance_scale(measured.distance, measured.bound)
    for wide in (2, 1):
        low, high = (measured.distance + sign * wide * measured.deviation for sign in (-1, 1))
        panels[1].fill_between(tokens, np.maximum(low, 0), high, color=LIGHT["measured"], alpha=0.12, linewidth=0)
    panels[1].plot(tokens, measured.distance, color=LIGHT["measured"], label="E[D(n)]")
    panels[1].plot(tokens, scale * measured.bound, color=LIGHT["predicted"], label=rf"{scale:.3g} $\sqrt{{\Upsilon}}$")
    panels[1].set(xlabel="n", ylabel="distance")
    panels[1].legend()
    finite = later & np.isfinite(measured.token_scale)
    panels[2].plot(tokens[finite], measured.token_scale[finite], color=LIGHT["measured"], label="$n_b(n)$")
    panels[2].plot(tokens, tokens, color=LIGHT["soft"], linestyle="--", label="n")
    panels[2].set(xlabel="n", ylabel="tokens")
    panels[2].legend()
    return figure


def main(folder: Path) -> list[Path]:
    """Writes the figures of the theory to `folder`."""
    with matplotlib.rc_context(matplotlib_style()):
        return [*save(bound_figure(), folder / "vlm_bound"), *save(alpha_figure(), folder / "vlm_alpha")]


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m patchscale.report.token_theory FOLDER")
    main(Path(sys.argv[1]))
