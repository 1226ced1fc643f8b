"""The user's own result table as a law for planning: one law in tokens per model and input size."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd

from patchscale.cost.estimate import Cost
from patchscale.cost.shapes import shape_of
from patchscale.errors import InputError
from patchscale.laws import Law, fit
from patchscale.laws.table import numbers, read_csv, split

NEEDED = ("model", "patch_size", "input_size", "samples_seen")
STEP = 1e-6
USUAL_BATCH = 128
"""Images of an update where the table has no column steps."""
LEAST_NOISE = 1e-3
"""Scatter of log y below which no table is believed: few rows can lie on a curve by chance, even exactly; stated."""


class TableLaw:
    """Laws of `test_loss` (or of the error, from `top1`) against tokens, read off a table with one row a trial.

    Args:
        table: columns model, patch_size, input_size (pixels or HxW), samples_seen, steps if known, and the metric;
            random seeds are rows of their own.
        metric: `test_loss` or `top1` (fractions; percent if a value is above 1).

    Raises:
        InputError: a column is missing or a value in it has no meaning (the message names column, row and value), or no
            model has three patch sizes at one input size.
    """

    def __init__(self, table: pd.DataFrame, metric: str = "test_loss", confidence: float = 0.9) -> None:
        from scipy.stats import t

        table = _readable(table, metric)
        self.quantity = "test_loss" if metric == "test_loss" else "top1_error"
        self.laws: dict[tuple[str, tuple[int, int]], Law] = {}
        self.samples: dict[tuple[str, tuple[int, int]], float] = {}
        self.batches: dict[tuple[str, tuple[int, int]], int] = {}
        self.patches: dict[tuple[str, tuple[int, int]], list[int]] = {}
        self.left_out: list[str] = []
        for values, part in split(table, ("model", "size")):
            model, size = key = (values["model"], values["size"])
            shape_of(model)
            distinct = len(set(part["tokens"]))
            if distinct < 3:
                pixels = "x".join(map(str, dict.fromkeys(size)))
                self.left_out.append(f"{model} at {pixels}: {distinct} patch sizes, a law needs three")
                continue
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


def read_table(table: pd.DataFrame | Path | str) -> pd.DataFrame:
    """The table, read from a CSV file unless it is one already."""
    return table if isinstance(table, pd.DataFrame) else read_csv(table)


def parse_size(size: object) -> tuple[int, int]:
    """(height, width) from 224, "224" or "160x224"."""
    try:
        sides = [float(part) for part in str(size).lower().split("x")]
    except ValueError:
        sides = []
    if len(sides) not in (1, 2) or not all(side > 0 and side.is_integer() for side in sides):
        raise InputError(f"input_size {size!r} is not a number of pixels or HxW")
    return int(sides[0]), int(sides[-1])


def _readable(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The table with checked numbers, and columns size (height, width), tokens and value (loss or error)."""
    missing = [name for name in (*NEEDED, metric) if name not in table.columns]
    if missing:
        raise InputError(f"the table lacks {', '.join(missing)}; it needs {', '.join((*NEEDED, metric))}")
    if not len(table):
        raise InputError("the table has no rows; measure three patch sizes of one model")
    numeric = [name for name in ("patch_size", "samples_seen", "steps") if name in table.columns]
    table = table.assign(
        **{name: numbers(table, name) for name in numeric},
        model=table["model"].map(str),
        size=[parse_size(size) for size in table["input_size"]],
        value=_values(table, metric),
    )
    return table.assign(tokens=_tokens(table))


def _tokens(table: pd.DataFrame) -> list[float]:
    """Patches of each row's input."""
    tokens = []
    for row, patch, (height, width) in zip(table.index, table["patch_size"], table["size"], strict=True):
        if patch % 1 or height % patch or width % patch:
            raise InputError(
                f"column 'patch_size', row {row}: {patch:g} does not divide {height}x{width} pixels; repair or drop "
                "the row"
            )
        tokens.append(height // patch * (width // patch))
    return tokens


def _values(table: pd.DataFrame, metric: str) -> np.ndarray:
    """The losses, or the errors."""
    if metric == "test_loss":
        return numbers(table, metric)
    whole = 100.0 if numbers(table, metric, positive=False).max() > 1 else 1.0
    return 1 - numbers(table, metric, positive=False, below=whole) / whole


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
