"""What a law may look like: a function, its parameters with their bounds, and where it comes from.

A form is one numpy function of its axes and parameters. Which parameters enter linearly is stated by name; the fitter
then solves them exactly (variable projection) for every start of the others. Shapes: axes broadcast as [S, n],
parameters as [S, 1] (S fits side by side, n points), so a form uses numpy operations only.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from patchscale.errors import InputError


@dataclass(frozen=True)
class Parameter:
    """One parameter of a form.

    Attributes:
        name: as printed, and as the function's argument is called.
        meaning: a few words; "floor" parameters are those a law may lack (see `zero_means`).
        low, high: hard bounds of the value.
        log: the optimiser moves its logarithm (positive parameters that may span decades).
        search: range of starting values; needed where the parameter is not linear.
        search_axis: the range is in fractions of the logarithmic range of this axis (break points, shifts).
        zero_means: what it means when the interval reaches the lower bound, for the sentence "not identified".
    """

    name: str
    meaning: str = ""
    low: float = -np.inf
    high: float = np.inf
    log: bool = False
    search: tuple[float, float] | None = None
    search_axis: int | None = None
    zero_means: str = ""


@dataclass(frozen=True)
class Form:
    """A family of laws.

    Attributes:
        name: what users write.
        function: `function(axis_1, ..., axis_k, parameter_1, ..., parameter_m)`.
        axes: names of the axes, in order; a table's columns are matched by position.
        parameters: in the function's order.
        linear: names of the parameters that enter linearly (the function is their combination, without a constant).
        formula: text with the names of parameters and axes in braces.
        source: paper and equation.
        domain: where the form makes sense.
        loss: "squared" or "huber", the default for this form.
        linear_start: replaces the function where linear parameters of a start are solved, for laws only nearly linear.
    """

    name: str
    function: Callable[..., np.ndarray]
    axes: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    linear: tuple[str, ...] = ()
    formula: str = ""
    source: str = ""
    domain: str = ""
    loss: str = "squared"
    linear_start: Callable[..., np.ndarray] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def nonlinear(self) -> tuple[Parameter, ...]:
        return tuple(parameter for parameter in self.parameters if parameter.name not in self.linear)

    def __call__(self, axes: tuple[np.ndarray, ...], values: np.ndarray) -> np.ndarray:
        """The function on axes of [n] or [S, n] for parameter values [..., m]; non-finite where it has no value."""
        return self._call(self.function, axes, values)

    def basis(self, axes: tuple[np.ndarray, ...], values: np.ndarray, name: str) -> np.ndarray:
        """What multiplies the linear parameter `name`: the function with it 1 and the other linear ones 0."""
        alone = np.array(values, dtype=float)
        alone[..., [self.names.index(other) for other in self.linear]] = 0.0
        alone[..., self.names.index(name)] = 1.0
        return self._call(self.linear_start or self.function, axes, alone)

    def _call(self, function, axes, values):
        columns = [values[..., [index]] for index in range(len(self.parameters))]
        with np.errstate(all="ignore"):
            return np.asarray(function(*axes, *columns))

    def check(self) -> None:
        """Raises InputError when the description and the function disagree."""
        taken = list(inspect.signature(self.function).parameters)
        if len(taken) != len(self.axes) + len(self.parameters):
            raise InputError(
                f"form {self.name!r}: its function takes {len(taken)} arguments ({', '.join(taken)}) but "
                f"{len(self.axes)} axes and {len(self.parameters)} parameters are named; make them agree"
            )
        for name in self.linear:
            if name not in self.names:
                raise InputError(f"form {self.name!r}: linear parameter {name!r} is none of {', '.join(self.names)}")
        for parameter in self.nonlinear:
            if parameter.search is None:
                raise InputError(
                    f"form {self.name!r}: parameter {parameter.name!r} is not linear and needs a search range"
                )


_FORMS: dict[str, Form] = {}


def register(form: Form, *, replace: bool = False) -> Form:
    """Adds a form to those `fit` knows by name; returns it.

    Example, a law with a logarithmic correction in six lines:
        register(Form("log_corrected", lambda x, scale, exponent: scale * np.log(x) * x**-exponent, axes=("x",),
                      parameters=(Parameter("scale", low=0, log=True), Parameter("exponent", low=0, search=(0.05, 2))),
                      linear=("scale",), formula="{scale} log({x}) {x}^-{exponent}"))
    """
    form.check()
    if form.name in _FORMS and not replace:
        raise InputError(f"form {form.name!r} exists already; choose another name or pass replace=True")
    _FORMS[form.name] = form
    return form


def get_form(name: str | Form) -> Form:
    """The form of that name, or the form itself; InputError names the known ones."""
    if isinstance(name, Form):
        name.check()
        return name
    if name not in _FORMS:
        raise InputError(f"unknown form {name!r}; known forms: {', '.join(_FORMS)}")
    return _FORMS[name]


def list_forms() -> list[Form]:
    """All registered forms, in the order of their registration."""
    return list(_FORMS.values())
