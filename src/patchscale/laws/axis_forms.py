"""Forms over one axis (tokens, samples, compute, vision tokens)."""

from __future__ import annotations

import numpy as np

from patchscale.laws.forms import Form, Parameter, register


def _scale(name: str = "scale") -> Parameter:
    return Parameter(name, "size of the part that x removes", low=0.0, log=True)


def _floor(name: str = "floor") -> Parameter:
    return Parameter(
        name, "what is left at infinite x", low=0.0, zero_means="the data do not tell a floor from no floor"
    )


def _exponent(name: str = "exponent") -> Parameter:
    return Parameter(
        name, "slope in log-log", low=0.0, high=20.0, search=(0.02, 3.0), zero_means="the data show no fall with x"
    )


def _power(x, scale, exponent):
    return scale * x**-exponent


def _power_floor(x, floor, scale, exponent):
    return floor + scale * x**-exponent


def _saturating(x, ceiling, gap, exponent):
    return ceiling - gap * x**-exponent


def _shifted(x, floor, scale, exponent, shift):
    return floor + scale * (x + shift) ** -exponent


def _log_linear(x, intercept, slope):
    return intercept + slope * np.log(x)


def _quadratic(x, intercept, slope, curvature):
    return np.exp(intercept + slope * np.log(x) + curvature * np.log(x) ** 2)


def _logistic(x, ceiling, midpoint, steepness):
    return ceiling / (1 + (x / midpoint) ** -steepness)


def _broken(x, floor, scale, exponent, *breaks):
    value = scale * x**-exponent
    for change, place, width in zip(breaks[0::3], breaks[1::3], breaks[2::3], strict=True):
        value = value * np.exp(-change * width * np.logaddexp(0.0, np.log(x / place) / width))
    return floor + value


def _one_break(x, floor, scale, exponent, change, place, width):
    return _broken(x, floor, scale, exponent, change, place, width)


def _two_breaks(x, floor, scale, exponent, change_1, place_1, width_1, change_2, ratio_2, width_2):
    return _broken(x, floor, scale, exponent, change_1, place_1, width_1, change_2, place_1 * ratio_2, width_2)


def _change(name: str) -> Parameter:
    return Parameter(name, "change of the exponent at the break", low=-20.0, high=20.0, search=(-2.0, 2.0))


def _break(name: str, fractions: tuple[float, float]) -> Parameter:
    return Parameter(name, "x of the break", low=0.0, log=True, search=fractions, search_axis=0)


def _width(name: str) -> Parameter:
    return Parameter(name, "sharpness: 0 is a corner", low=0.02, high=5.0, log=True, search=(0.1, 1.0))


register(
    Form(
        "power", _power, ("x",),
        (_scale(), Parameter("exponent", "slope in log-log", low=-20.0, high=20.0, search=(-1.0, 2.0))),
        linear=("scale",), formula="{scale} * {x}^-{exponent}",
        source="Kaplan et al. 2001.08361 eq. 1.1; patchification fig. 1", domain="x > 0; falls (or rises) for ever",
    )
)  # fmt: skip
register(
    Form(
        "power_floor", _power_floor, ("x",), (_floor(), _scale(), _exponent()),
        linear=("floor", "scale"), formula="{floor} + {scale} * {x}^-{exponent}",
        source="Henighan et al. 2010.14701 eq. 1.1", domain="x > 0; losses that fall towards a floor >= 0",
    )
)  # fmt: skip
register(
    Form(
        "saturating", _saturating, ("x",),
        (Parameter("ceiling", "value at infinite x", low=0.0), _scale("gap"), _exponent()),
        linear=("ceiling", "gap"), formula="{ceiling} - {gap} * {x}^-{exponent}",
        source="power law with a ceiling, for scores", domain="x > 0; scores that rise towards a ceiling",
    )
)  # fmt: skip
register(
    Form(
        "shifted_floor", _shifted, ("x",),
        (_floor(), _scale(), _exponent(),
         Parameter("shift", "saturation at small x", low=0.0, search=(-0.3, 0.9), search_axis=0,
                   zero_means="the data show no saturation at small x")),
        linear=("floor", "scale"), formula="{floor} + {scale} * ({x} + {shift})^-{exponent}",
        source="Zhai et al. 2106.04560 (double saturation)", domain="x > 0; losses that saturate at both ends",
    )
)  # fmt: skip
register(
    Form(
        "log_linear", _log_linear, ("x",),
        (Parameter("intercept", "value at x = 1"), Parameter("slope", "change per e-fold of x")),
        linear=("intercept", "slope"), formula="{intercept} + {slope} * log({x})",
        source="straight line in log x", domain="x > 0; leaves the range of a metric at large x",
    )
)  # fmt: skip
register(
    Form(
        "quadratic_loglog", _quadratic, ("x",),
        (Parameter("intercept", "log value at x = 1", search=(-5.0, 10.0)),
         Parameter("slope", "log-log slope at x = 1", search=(-1.0, 1.0)),
         Parameter("curvature", "change of slope per e-fold", search=(-0.2, 0.2))),
        formula="exp({intercept} + {slope} * log({x}) + {curvature} * log({x})^2)",
        source="parabola in log-log, a check of straightness", domain="x > 0; inside the measured range only",
    )
)  # fmt: skip
register(
    Form(
        "logistic", _logistic, ("x",),
        (Parameter("ceiling", "value at infinite x", low=0.0, log=True),
         Parameter("midpoint", "x of half the ceiling", low=0.0, log=True, search=(-0.5, 1.2), search_axis=0),
         Parameter("steepness", "slope in logit-log", low=0.0, high=20.0, search=(0.05, 3.0))),
        linear=("ceiling",), formula="{ceiling} / (1 + ({x} / {midpoint})^-{steepness})",
        source="Hill curve: a bounded link for accuracy, mIoU, AP", domain="x > 0; scores from 0 to a ceiling",
    )
)  # fmt: skip
register(
    Form(
        "broken", _one_break, ("x",),
        (_floor(), _scale(),
         Parameter("exponent", "slope before the break", low=-20.0, high=20.0, search=(-1.0, 1.5)),
         _change("change"), _break("place", (0.1, 0.9)), _width("width")),
        linear=("floor", "scale"),
        formula="{floor} + {scale} * {x}^-{exponent} * (1 + ({x} / {place})^(1/{width}))^(-{change} * {width})",
        source="Caballero et al. 2210.14891 eq. 1, one break", domain="x > 0; may fall, rise and fall again",
    )
)  # fmt: skip
register(
    Form(
        "broken_twice", _two_breaks, ("x",),
        (_floor(), _scale(),
         Parameter("exponent", "slope before the breaks", low=-20.0, high=20.0, search=(-1.0, 1.5)),
         _change("change_1"), _break("place_1", (0.05, 0.6)), _width("width_1"), _change("change_2"),
         Parameter("ratio_2", "second break over first", low=1.0, log=True, search=(2.0, 2000.0)), _width("width_2")),
        linear=("floor", "scale"),
        formula="{floor} + {scale} * {x}^-{exponent} * (1 + ({x} / {place_1})^(1/{width_1}))^(-{change_1} * {width_1})"
        " * (1 + ({x} / ({place_1} * {ratio_2}))^(1/{width_2}))^(-{change_2} * {width_2})",
        source="Caballero et al. 2210.14891 eq. 1, two breaks; double descent", domain="x > 0; non-monotone allowed",
    )
)  # fmt: skip
