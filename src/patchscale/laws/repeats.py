"""Laws of repeated data: decaying value of repeats (Muennighoff), and two laws that can rise with repetition.

Axes: params N, samples D (seen, repeats counted), unique U <= D. Repeats R = D / U - 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from patchscale.laws.forms import Form, Parameter, register


@dataclass(frozen=True)
class DataConstrained:
    """Constants of the data-constrained law; the defaults are those published with 2305.16264 (language)."""

    E: float = float(np.exp(0.6254804))
    A: float = float(np.exp(6.255414))
    B: float = float(np.exp(7.3049974))
    alpha: float = 0.3526596
    beta: float = 0.3526596
    repeat_samples: float = 15.387756
    repeat_params: float = 5.309743

    def predict(self, params, samples, unique) -> np.ndarray:
        """Loss of a model of `params` after `samples`, of which `unique` differ."""
        names = ("E", "A", "B", "alpha", "beta", "repeat_samples", "repeat_params")
        axes = (np.asarray(axis, dtype=float) for axis in (params, samples, unique))
        return _data_constrained(*axes, *(getattr(self, name) for name in names))

    def effective_samples(self, samples, unique) -> np.ndarray:
        """D' = U + U R* (1 - exp(-R / R*)): what the samples are worth in fresh ones; at most (1 + R*) U."""
        return _worth(np.asarray(unique, float), np.asarray(samples, float) / unique - 1, self.repeat_samples)


def _worth(base, repeats, decay):
    repeats = np.maximum(repeats, 0.0)
    return base * (1 - decay * np.expm1(-repeats / decay))


def _data_constrained(params, samples, unique, E, A, B, alpha, beta, repeat_samples, repeat_params):
    balance = ((alpha * A) / (beta * B)) ** (1 / (alpha + beta))
    base = np.minimum(params, (unique * balance) ** (beta / alpha) * balance)
    worth_params = _worth(base, params / base - 1, repeat_params)
    worth_samples = _worth(unique, samples / unique - 1, repeat_samples)
    return E + A * worth_params**-alpha + B * worth_samples**-beta


def _without_excess(params, samples, unique, E, A, B, alpha, beta, repeat_samples, repeat_params):
    worth_samples = _worth(unique, samples / unique - 1, repeat_samples)
    return E + A * params**-alpha + B * worth_samples**-beta


def _overfit(params, samples, unique, E, A, B, alpha, beta, P, delta, kappa):
    repeats = np.maximum(samples / unique - 1, 0.0)
    return E + A * params**-alpha + B * samples**-beta + P * repeats**delta * (params / unique) ** kappa


def _bounded(params, samples, unique, floor, start, params_0, alpha, samples_0, beta, gamma, unique_0, delta):
    size = params / params_0
    distance = size**-alpha + (samples / samples_0) ** -beta + size**gamma * (unique / unique_0) ** -delta
    return (floor + start * distance) / (1 + distance)


_FLAT = "the data show no fall"
_NO_FLOOR = "the data do not tell a floor from no floor"
_AXES = ("params", "samples", "unique")


def _exponent(name: str, low: float = 0.05, high: float = 1.0) -> Parameter:
    return Parameter(
        name, "slope of a term", low=0.0, high=20.0, search=(low, high), zero_means="the data show no fall"
    )


def _size(name: str, meaning: str) -> Parameter:
    return Parameter(name, meaning, low=0.0, log=True)


def _decay(name: str, meaning: str) -> Parameter:
    return Parameter(name, meaning, low=0.0, log=True, search=(1.0, 60.0))


def _place(name: str, axis: int) -> Parameter:
    return Parameter(name, "where a term equals 1", low=0.0, log=True, search=(-0.8, 0.6), search_axis=axis)


_FLOOR = Parameter("E", "irreducible loss", low=0.0, zero_means=_NO_FLOOR)

register(
    Form(
        "data_constrained", _data_constrained, _AXES,
        (_FLOOR, _size("A", "size of the parameter term"), _size("B", "size of the data term"),
         _exponent("alpha"), _exponent("beta"),
         _decay("repeat_samples", "R*: repeats after which value has decayed by e"),
         _decay("repeat_params", "the same for excess parameters")),
        linear=("E", "A", "B"), linear_start=_without_excess,
        formula="{E} + {A} * N'^-{alpha} + {B} * D'^-{beta} with N' of {params}, D' of {samples} and {unique}, "
        "R*_D {repeat_samples}, R*_N {repeat_params}",
        source="Muennighoff et al. 2305.16264", domain="the whole set repeated; cannot rise with repeats",
    )
)  # fmt: skip
register(
    Form(
        "repeat_overfit", _overfit, _AXES,
        (_FLOOR, _size("A", "size of the parameter term"), _size("B", "size of the data term"),
         _exponent("alpha"), _exponent("beta"), _size("P", "size of the overfitting term"),
         _exponent("delta", 0.1, 2.0), _exponent("kappa", 0.05, 1.5)),
        linear=("E", "A", "B", "P"),
        formula="{E} + {A} * {params}^-{alpha} + {B} * {samples}^-{beta} "
        "+ {P} * R^{delta} * ({params} / {unique})^{kappa} with R = {samples} / {unique} - 1",
        source="2605.01640 (Lovelace), as given by a secondary source", domain="may rise with repeats",
    )
)  # fmt: skip
register(
    Form(
        "repeat_bounded", _bounded, _AXES,
        (Parameter("floor", "value at infinite scale", low=0.0, zero_means=_NO_FLOOR),
         Parameter("start", "value without training", low=0.0),
         _place("params_0", 0), _exponent("alpha"), _place("samples_0", 1), _exponent("beta"),
         _exponent("gamma"), _place("unique_0", 2), _exponent("delta")),
        linear=("floor", "start"),
        formula="({floor} + {start} * h) / (1 + h) with h = ({params} / {params_0})^-{alpha} "
        "+ ({samples} / {samples_0})^-{beta} + ({params} / {params_0})^{gamma} * ({unique} / {unique_0})^-{delta}",
        source="2605.09189, as given by a secondary source",
        domain="bounded: suits error rates; may rise with model size",
    )
)  # fmt: skip
