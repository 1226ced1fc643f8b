"""A fitted law: its numbers, what is not known about them, predictions with intervals, and the same in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from patchscale.errors import InputError
from patchscale.laws.band import mean_offsets, prediction_offsets
from patchscale.laws.forms import Form
from patchscale.laws.solver import Problem, link, to_values, unlink
from patchscale.laws.table import describe


@dataclass(frozen=True)
class Param:
    """One fitted parameter.

    Attributes:
        value: best value.
        low, high: profile-likelihood interval; an infinite end means that it does not close, NaN that none exists.
        identified: the interval closes on both sides inside the parameter's bounds.
        reason: why not, in words; empty if identified.
        bootstrap_low, bootstrap_high: the bootstrap's percentile interval, None if not asked for.
    """

    value: float
    low: float
    high: float
    identified: bool
    reason: str = ""
    bootstrap_low: float | None = None
    bootstrap_high: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; infinite and missing ends are None."""
        names = ("value", "low", "high", "bootstrap_low", "bootstrap_high")
        plain = {name: finite_or_none(getattr(self, name)) for name in names}
        return {**plain, "identified": self.identified, "reason": self.reason}


@dataclass(frozen=True)
class Law:
    """One fitted law.

    Attributes:
        form: what was fitted.
        x: columns of the axes, in the form's order.
        y: column of the metric.
        group: values of the group columns.
        params: by name.
        confidence: of every interval.
        points: rows used.
        starts: {"searched", "tried", "agree"}: see `patchscale.laws.search.Optimum`.
        rms_log_residual: root mean square of residuals in the space of the fit (log unless asked otherwise).
        aicc: corrected Akaike criterion in that space (lower is better); None without spare points.
        held_out: prediction of the finest points from the rest, None if there are too few points.
        checks: residual checks, see `patchscale.laws.residuals`.
        bound: upper end of a bounded metric; the law is then of `bound - y` (log space) or of y (logit space).
        bootstraps: [draws, m] parameter values, None if not asked for.
    """

    form: Form
    x: tuple[str, ...]
    y: str
    group: dict
    params: dict[str, Param]
    confidence: float
    points: int
    starts: dict[str, int]
    rms_log_residual: float
    aicc: float | None
    held_out: dict | None
    checks: dict
    bound: float | None
    problem: Problem = field(repr=False)
    place: np.ndarray = field(repr=False)
    bootstraps: np.ndarray | None = field(default=None, repr=False)

    @property
    def values(self) -> dict[str, float]:
        """Parameter values by name."""
        return {name: param.value for name, param in self.params.items()}

    @property
    def of_error(self) -> bool:
        """The fitted quantity is `bound - y`."""
        return self.bound is not None and self.problem.space != "logit"

    @property
    def x_range(self) -> list[list[float]]:
        """[lowest, highest] of every axis."""
        return [[float(axis.min()), float(axis.max())] for axis in self.problem.axes]

    def predict(self, x: Any) -> np.ndarray:
        """y at x, in the units of the column y.

        Args:
            x: for one axis a number or array [n]; for several a mapping or DataFrame by column name, or a sequence of
                arrays, one per axis.
        """
        value = self.form(self._axes(x), to_values(self.form, self.place))
        return self._to_metric(value)

    def band(self, x: Any, kind: str = "mean") -> tuple[np.ndarray, np.ndarray]:
        """(low, high) around `predict(x)` at the law's confidence.

        Args:
            x: as for `predict`.
            kind: "mean": profile-likelihood interval of the curve itself (by curvature for the Huber loss);
                "prediction": where one more run would fall, the same with the residual scatter added in quadrature.

        Returns:
            Arrays [n]; infinite where the data give no end, NaN where there are no spare points to estimate the noise.
        """
        if kind not in ("mean", "prediction"):
            raise InputError(f"band kind {kind!r} is neither 'mean' nor 'prediction'")
        return self._bands(x)[0 if kind == "mean" else 1]

    def _bands(self, x: Any) -> list[tuple[np.ndarray, np.ndarray]]:
        """The mean band and the prediction band."""
        axes = self._axes(x)
        fitted = self.form(axes, to_values(self.form, self.place))
        centre = np.atleast_1d(link(fitted, self.problem.space, self.problem.bound))
        mean = mean_offsets(self.problem, self.place, axes, self.confidence)
        extra = prediction_offsets(self.problem, self.place, self.confidence)
        bands = []
        for down, up in (mean, (np.hypot(mean[0], extra), np.hypot(mean[1], extra))):
            low, high = (
                self._to_metric(unlink(end, self.problem.space, self.problem.bound))
                for end in (centre - down, centre + up)
            )
            bands.append((high, low) if self.of_error else (low, high))
        return bands

    @property
    def formula(self) -> str:
        """The law with its numbers."""
        numbers = {name: f"{param.value:.4g}" for name, param in self.params.items()}
        right = self.form.formula.format(**numbers, **dict(zip(self.form.axes, self.x, strict=True)))
        return (
            f"{self.left_side} = {right}".replace("+ -", "- ")
            .replace("- -", "+ ")
            .replace("^--", "^")
            .replace("(--", "(")
        )

    @property
    def left_side(self) -> str:
        """What the formula is of: the metric, or its distance from the bound."""
        return f"{self.bound:g} - {self.y}" if self.of_error else self.y

    @property
    def sentence(self) -> str:
        """The law in one plain sentence, with every interval, or the words "not identified" and why."""
        percent = f"{100 * self.confidence:g} %"
        parts = []
        for name, param in self.params.items():
            if param.identified:
                parts.append(f"{name} {param.value:.4g} ({percent} interval {param.low:.4g} to {param.high:.4g})")
            else:
                parts.append(f"{name} not identified ({param.reason})")
        where = f"for {describe(self.group)}: " if self.group else ""
        text = f"{where}{self.formula}, from {self.points} points; {'; '.join(parts)}"
        if self.held_out:
            text += f"; {self.held_out['sentence']}"
        for finding in self.checks["words"]:
            text += f"; {finding}"
        if self.starts["agree"] < 2 <= self.starts["tried"]:
            text += "; only one of the starts reached this fit, so a better one may exist"
        return text + "."

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: everything printed, and the curve with its bands at 60 points for laws of one axis."""
        return {
            "group": self.group,
            "form": self.form.name,
            "formula": self.formula,
            "sentence": self.sentence,
            "source": self.form.source,
            "x": self.x[0] if len(self.x) == 1 else list(self.x),
            "y": self.y,
            "bound": self.bound,
            "confidence": self.confidence,
            "points": self.points,
            "params": {name: param.to_dict() for name, param in self.params.items()},
            "starts": self.starts,
            "rms_log_residual": finite_or_none(self.rms_log_residual),
            "aicc": finite_or_none(self.aicc),
            "held_out": self.held_out,
            "checks": self.checks,
            "x_range": self.x_range[0] if len(self.x) == 1 else self.x_range,
            "band": self._band_dict() if len(self.x) == 1 else None,
        }

    def _band_dict(self) -> dict[str, list]:
        low, high = self.x_range[0]
        x = np.geomspace(low, high, 60)
        columns = {"x": x, "y": self.predict(x)}
        (columns["low"], columns["high"]), prediction = self._bands(x)
        columns["prediction_low"], columns["prediction_high"] = prediction
        return {name: [finite_or_none(value) for value in column] for name, column in columns.items()}

    def _axes(self, x: Any) -> tuple[np.ndarray, ...]:
        if isinstance(x, pd.DataFrame | Mapping):
            missing = [name for name in self.x if name not in x]
            if missing:
                raise InputError(f"the law needs {', '.join(self.x)}; missing: {', '.join(missing)}")
            arrays = [np.asarray(x[name], dtype=float) for name in self.x]
        elif len(self.x) == 1:
            arrays = [np.asarray(x, dtype=float)]
        elif isinstance(x, Sequence | np.ndarray) and len(x) == len(self.x):
            arrays = [np.asarray(axis, dtype=float) for axis in x]
        else:
            raise InputError(f"the law has {len(self.x)} axes ({', '.join(self.x)}); give one array for each")
        return tuple(np.broadcast_arrays(*[np.atleast_1d(array) for array in arrays]))

    def _to_metric(self, fitted: np.ndarray) -> np.ndarray:
        return self.bound - fitted if self.of_error and self.bound is not None else np.asarray(fitted)


def finite_or_none(value: Any) -> float | None:
    """A float for JSON: None for missing, infinite or NaN."""
    return float(value) if value is not None and np.isfinite(value) else None
