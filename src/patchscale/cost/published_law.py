"""One joint law of the paper's ImageNet tables, for planning: error against tokens, parameters and input size.

    error = (R / 224)^-g  k^d  [ E + A (P / 1e8)^-a + B N^-b (P / 1e8)^-i ]

N tokens, P parameters without positions, R input side in pixels, k = 2 for DeiT and 1 for
Adventurer. The last term is
the cost of coarse patches; its power of P says that larger models lose less by them (the interaction). It is fitted by
`patchscale.laws.fit` to the 49 distinct cells of tables 1 and 4 (top-1, each trained once). The result is kept in
tables/published_law.json, so that planning needs neither scipy nor pandas; a test fits again and compares.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from patchscale.cost.estimate import estimate

if TYPE_CHECKING:
    import pandas as pd

    from patchscale.laws import Form

AXES = ("tokens", "params", "input", "mixer")
MIXER = {"adventurer": 1.0, "deit": 2.0}
PARAMETERS = (
    "floor",
    "size_scale",
    "size",
    "patch_scale",
    "tokens_exponent",
    "interaction",
    "input_exponent",
    "family",
)
CONFIDENCE = 0.9
SIZES = {"T": "tiny", "S": "small", "B": "base", "L": "large"}
STEP = 1e-6


def error_rate(tokens, params, input, mixer, floor, size_scale, size, patch_scale, tokens_exponent, interaction,
               input_exponent, family):  # fmt: skip
    """The law; arguments broadcast."""
    size_ratio = np.asarray(params) / 1e8
    bracket = floor + size_scale * size_ratio**-size + patch_scale * tokens**-tokens_exponent * size_ratio**-interaction
    return (np.asarray(input) / 224) ** -input_exponent * np.asarray(mixer) ** family * bracket


def log_gradient(axes: np.ndarray, values: np.ndarray) -> np.ndarray:
    """d log(error) / d parameter by central differences; axes [4, n], values [8], result [n, 8]."""
    columns = []
    for index in range(len(values)):
        step = np.zeros_like(values)
        step[index] = STEP * max(1e-3, abs(values[index]))
        up, down = (np.log(error_rate(*axes, *(values + sign * step))) for sign in (1, -1))
        columns.append((up - down) / (2 * step[index]))
    return np.stack(columns, axis=-1)


def published_points() -> pd.DataFrame:
    """The 49 distinct cells of tables 1 and 4: axes of the law, `error`, and the model's registered name."""
    import pandas as pd

    from patchscale.laws import published

    cells = pd.concat([published(1), published(4)]).drop_duplicates(["model", "input", "patch"])
    names = [f"{m.split('-')[0].lower()}_{SIZES[m.split('-')[1]]}_patch16" for m in cells["model"]]
    return pd.DataFrame(
        {
            "model": names,
            "tokens": cells["tokens"].astype(float).to_numpy(),
            "params": [float(estimate(name, input_size=224).params_without_positions) for name in names],
            "input": cells["input"].astype(float).to_numpy(),
            "mixer": [MIXER[name.split("_")[0]] for name in names],
            "patch_size": cells["patch"].astype(int).to_numpy(),
            "error": 1 - cells["value"].astype(float).to_numpy() / 100,
        }
    )


def planning_form() -> Form:
    """The law as a form of `patchscale.laws`."""
    from patchscale.laws import Form, Parameter

    return Form(
        "patch_planning",
        error_rate,
        axes=AXES,
        parameters=(
            Parameter("floor", "error left by endless tokens and parameters", low=0, log=True),
            Parameter("size_scale", low=0, log=True),
            Parameter("size", "exponent of parameters", low=0.01, high=3, search=(0.1, 1.5)),
            Parameter("patch_scale", low=0, log=True),
            Parameter("tokens_exponent", low=0.01, high=3, search=(0.3, 1.5)),
            Parameter("interaction", "exponent of parameters in the tokens' term", low=-2, high=2, search=(-0.5, 1)),
            Parameter("input_exponent", low=-1, high=2, search=(0, 0.5)),
            Parameter("family", "log2 of DeiT's error over Adventurer's", low=-1, high=1, search=(-0.1, 0.1)),
        ),
        linear=("floor", "size_scale", "patch_scale"),
        formula="({input}/224)^-{input_exponent} {mixer}^{family} [{floor} + {size_scale} ({params}/1e8)^-{size} + "
        "{patch_scale} {tokens}^-{tokens_exponent} ({params}/1e8)^-{interaction}]",
        source="ours, for tables 1 and 4 of 2502.03738",
        domain="top-1 error on ImageNet-1k at the published schedules",
    )


def fit_published_law(points: pd.DataFrame | None = None) -> dict[str, Any]:
    """Fits the law and linearises its uncertainty: what tables/published_law.json holds.

    Args:
        points: rows as of `published_points`; all of them if not given.
    """
    from scipy.stats import t

    from patchscale.laws import fit

    points = published_points() if points is None else points
    law = fit(points, x=AXES, y="error", form=planning_form(), confidence=CONFIDENCE, bootstrap=0, held_out=False)[0]
    values = np.array([law.params[name].value for name in PARAMETERS])
    axes = points[list(AXES)].to_numpy().T
    residuals = np.log(points["error"].to_numpy()) - np.log(error_rate(*axes, *values))
    freedom = len(points) - len(values)
    noise = float(np.sqrt(residuals @ residuals / freedom))
    jacobian = log_gradient(axes, values)
    return {
        "formula": law.formula,
        "points": len(points),
        "values": dict(zip(PARAMETERS, values.tolist(), strict=True)),
        "covariance": (noise**2 * np.linalg.pinv(jacobian.T @ jacobian)).tolist(),
        "noise": noise,
        "confidence": CONFIDENCE,
        "quantile": float(t.ppf((1 + CONFIDENCE) / 2, freedom)),
        "largest_residual": float(np.abs(residuals).max()),
        "ranges": {name: [float(axis.min()), float(axis.max())] for name, axis in zip(AXES, axes, strict=True)},
        "cells": sorted([row["model"], int(row["input"]), row["patch_size"]] for row in points.to_dict("records")),
    }


def load_published_law() -> dict[str, Any]:
    """The kept fit."""
    return json.loads(resources.files("patchscale.cost").joinpath("tables", "published_law.json").read_text("utf-8"))


def write_published_law() -> None:
    """Writes the kept fit anew."""
    from patchscale.files import write_json

    write_json(Path(__file__).parent / "tables" / "published_law.json", fit_published_law())
