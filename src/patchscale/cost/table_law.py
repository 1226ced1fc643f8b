"""The user's own result table as a law for planning: one law in tokens per model and input size."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from patchscale.cost.estimate import Cost
from patchscale.cost.shapes import shape_of
from patchscale.cost.table_rows import need_same_settings, plannable_rows
from patchscale.errors import InputError
from patchscale.laws import Law, fit
from patchscale.laws.table import split

STEP = 1e-6
USUAL_BATCH = 128
"""Images of an update where the table has no column steps."""
LEAST_NOISE = 1e-3
"""Scatter of log y below which no table is believed: few rows can lie on a curve by chance, even exactly; stated."""


class TableLaw:
    """Laws of `test_loss` (or of the error, from `top1`) against tokens, read off a table with one row a trial.

    Args:
        table: columns model, patch_size, input_size (pixels or HxW), samples_seen, steps if known, and the metric;
            random seeds are rows of their own. A study's axes are columns too: rows of longer sequences or fewer tokens
            than the patches make are left out (`left_out` says so), others must not vary within a law.
        metric: `test_loss` or `top1` (fractions; percent if a value is above 1).

    Raises:
        InputError: a column is missing or a value in it has no meaning (the message names column, row and value), or no
            model has three patch sizes at one input size; another task than classification, several data sets, or
            another setting that varies within a law.
    """

    def __init__(self, table: pd.DataFrame, metric: str = "test_loss", confidence: float = 0.9) -> None:
        from scipy.stats import t

        table, self.left_out = plannable_rows(table, metric)
        self.quantity = "test_loss" if metric == "test_loss" else "top1_error"
        self.laws: dict[tuple[str, tuple[int, int]], Law] = {}
        self.samples: dict[tuple[str, tuple[int, int]], float] = {}
        self.batches: dict[tuple[str, tuple[int, int]], int] = {}
        self.patches: dict[tuple[str, tuple[int, int]], list[int]] = {}
        for values, part in split(table, ("model", "size")):
            model, size = key = (values["model"], values["size"])
            shape_of(model)
            distinct, name = len(set(part["tokens"])), f"{model} at {'x'.join(map(str, dict.fromkeys(size)))}"
            if distinct < 3:
                self.left_out.append(f"{name}: {distinct} patch sizes, a law needs three")
                continue
            need_same_settings(part, name)
            form = "power_floor" if distinct > 3 else "power"
            self.laws[key] = fit(
                part, x="tokens", y="value", form=form, confidence=confidence, bootstrap=0, held_out=False
            )[0]
            self.samples[key] = float(np.median(part["samples_seen"]))
            self.patches[key] = sorted(map(int, set(part["patch_size"])))
            steps = part["steps"] if "steps" in part.columns else part["samples_seen"] / USUAL_BATCH
            self.batches[key] = max(1, round(float(np.median(part["samples_seen"] / steps))))
        if not self.laws:
            raise InputError(
                f"no law can be fitted: {'; '.join(self.left_out)}; measure three patch sizes of one model"
            )
        self.offsets, covariances, squares, freedom = {}, [], 0.0, 0
        size = 0
        for key, law in self.laws.items():
            jacobian = _log_gradient(law, law.problem.axes[0].ravel())
            spare = max(1, law.points - len(law.values))
            squares, freedom = squares + law.points * law.rms_log_residual**2, freedom + spare
            self.offsets[key], size = size, size + jacobian.shape[1]
            covariances.append(np.linalg.pinv(jacobian.T @ jacobian, rcond=1e-10))
        self.noise = max(LEAST_NOISE, math.sqrt(squares / freedom))
        self.quantile = float(t.ppf((1 + confidence) / 2, freedom))
        self.covariance = np.zeros((size, size))
        for start, block in zip(self.offsets.values(), covariances, strict=True):
            self.covariance[start : start + len(block), start : start + len(block)] = self.noise**2 * block

    def log_value(self, cost: Cost) -> tuple[float, np.ndarray]:
        """log y, and its gradient by the parameters of all laws (zero but for this model's)."""
        key = (cost.model, cost.input_size)
        law, tokens = self.laws[key], np.array([float(cost.tokens)])
        gradient = np.zeros(len(self.covariance))
        own = _log_gradient(law, tokens)[0]
        gradient[self.offsets[key] : self.offsets[key] + len(own)] = own
        return float(np.log(law.predict(tokens)[0])), gradient

    def limits(self, cost: Cost) -> list[str]:
        """In which ways this lies outside the table."""
        low, high = self.laws[(cost.model, cost.input_size)].x_range[0]
        if low <= cost.tokens <= high:
            return []
        return [f"{cost.tokens:,} tokens outside the {low:,.0f} to {high:,.0f} of the table"]


def _log_gradient(law: Law, tokens: np.ndarray) -> np.ndarray:
    """d log y / d parameter by central differences, [n, m]."""
    values = np.array(list(law.values.values()))
    columns = []
    for index in range(len(values)):
        step = np.zeros_like(values)
        step[index] = STEP * max(1e-3, abs(values[index]))
        up, down = (np.log(law.form((tokens,), values + sign * step)) for sign in (1, -1))
        columns.append((up - down).ravel() / (2 * step[index]))
    return np.stack(columns, axis=-1)
