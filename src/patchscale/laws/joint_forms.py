"""Forms over several axes: tokens, parameters and samples together, with and without an interaction.

In an additive law E + A / N^a + B / K^b the tokens K that reach a given distance from the full-token loss do not depend
on the model size N. "Larger models need fewer tokens" is therefore exactly the claim that the token term depends on N:
the exponent `interaction` of `additive_interaction` (zero: none).
"""

from __future__ import annotations

from patchscale.laws.forms import Form, Parameter, register

_NO_FLOOR = "the data do not tell a floor from no floor"


def _floor(name: str = "floor") -> Parameter:
    return Parameter(name, "what is left when every axis is infinite", low=0.0, zero_means=_NO_FLOOR)


def _scale(name: str) -> Parameter:
    return Parameter(name, "size of a term", low=0.0, log=True)


def _exponent(name: str, high: float = 1.5) -> Parameter:
    return Parameter(
        name, "slope of a term in log-log", low=0.0, high=20.0, search=(0.02, high), zero_means="the data show no fall"
    )


def _additive(first, second, floor, scale_1, exponent_1, scale_2, exponent_2):
    return floor + scale_1 * first**-exponent_1 + scale_2 * second**-exponent_2


def _additive_three(first, second, third, floor, scale_1, exponent_1, scale_2, exponent_2, scale_3, exponent_3):
    return floor + scale_1 * first**-exponent_1 + scale_2 * second**-exponent_2 + scale_3 * third**-exponent_3


def _additive_interaction(first, second, floor, scale_1, exponent_1, scale_2, exponent_2, interaction):
    return floor + scale_1 * first**-exponent_1 + scale_2 * first**-interaction * second**-exponent_2


def _additive_three_interaction(
    first, second, third, floor, scale_1, exponent_1, scale_2, exponent_2, scale_3, exponent_3, interaction
):
    token_term = scale_2 * first**-interaction * second**-exponent_2
    return floor + scale_1 * first**-exponent_1 + token_term + scale_3 * third**-exponent_3


def _multiplicative(first, second, floor, scale, exponent_1, exponent_2):
    return floor + scale * first**-exponent_1 * second**-exponent_2


def _multiplicative_three(first, second, third, floor, scale, exponent_1, exponent_2, exponent_3):
    return floor + scale * first**-exponent_1 * second**-exponent_2 * third**-exponent_3


def _chinchilla(params, samples, E, A, B, alpha, beta):
    return E + A * params**-alpha + B * samples**-beta


def _shape(shape, samples, floor, scale, exponent, growth_scale, growth, rest, decay):
    return floor + scale * shape**-exponent + (growth_scale * shape**growth + rest) * samples**-decay


_TERM_1 = "{scale_1} * {first}^-{exponent_1}"
_TERM_2 = "{scale_2} * {second}^-{exponent_2}"
_TERM_3 = "{scale_3} * {third}^-{exponent_3}"
_CROSSED = "{scale_2} * {first}^-{interaction} * {second}^-{exponent_2}"
_TWO = (_floor(), _scale("scale_1"), _exponent("exponent_1"), _scale("scale_2"), _exponent("exponent_2"))
_THREE = (*_TWO, _scale("scale_3"), _exponent("exponent_3"))
_INTERACTION = Parameter(
    "interaction", "how the second term depends on the first axis", -20.0, 20.0, search=(-1.0, 1.0)
)

register(
    Form(
        "additive", _additive, ("first", "second"), _TWO, linear=("floor", "scale_1", "scale_2"),
        formula=f"{{floor}} + {_TERM_1} + {_TERM_2}",
        source="Hoffmann et al. 2203.15556 eq. 2, over any two axes", domain="axes > 0, varied off any diagonal",
    )
)  # fmt: skip
register(
    Form(
        "additive_three", _additive_three, ("first", "second", "third"), _THREE,
        linear=("floor", "scale_1", "scale_2", "scale_3"), formula=f"{{floor}} + {_TERM_1} + {_TERM_2} + {_TERM_3}",
        source="the same over three axes (tokens, parameters, samples)", domain="axes > 0, varied off any diagonal",
    )
)  # fmt: skip
register(
    Form(
        "additive_interaction", _additive_interaction, ("first", "second"), (*_TWO, _INTERACTION),
        linear=("floor", "scale_1", "scale_2"), formula=f"{{floor}} + {_TERM_1} + {_CROSSED}",
        source="additive law whose second term depends on the first axis",
        domain="axes > 0; the first is usually params",
    )
)  # fmt: skip
register(
    Form(
        "additive_three_interaction", _additive_three_interaction, ("first", "second", "third"),
        (*_THREE, _INTERACTION),
        linear=("floor", "scale_1", "scale_2", "scale_3"), formula=f"{{floor}} + {_TERM_1} + {_CROSSED} + {_TERM_3}",
        source="the same over three axes", domain="axes > 0; the first is usually params, the second tokens",
    )
)  # fmt: skip
register(
    Form(
        "multiplicative", _multiplicative, ("first", "second"),
        (_floor(), _scale("scale"), _exponent("exponent_1"), _exponent("exponent_2")), linear=("floor", "scale"),
        formula="{floor} + {scale} * {first}^-{exponent_1} * {second}^-{exponent_2}",
        source="Li et al. 2411.03312 (vision tokens and language model size)", domain="axes > 0",
    )
)  # fmt: skip
register(
    Form(
        "multiplicative_three", _multiplicative_three, ("first", "second", "third"),
        (_floor(), _scale("scale"), _exponent("exponent_1"), _exponent("exponent_2"), _exponent("exponent_3")),
        linear=("floor", "scale"),
        formula="{floor} + {scale} * {first}^-{exponent_1} * {second}^-{exponent_2} * {third}^-{exponent_3}",
        source="the same over three axes", domain="axes > 0",
    )
)  # fmt: skip
register(
    Form(
        "chinchilla", _chinchilla, ("params", "samples"),
        (_floor("E"), _scale("A"), _scale("B"), _exponent("alpha"), _exponent("beta")), linear=("E", "A", "B"),
        formula="{E} + {A} * {params}^-{alpha} + {B} * {samples}^-{beta}",
        source="Hoffmann et al. 2203.15556 approach 3; Besiroglu et al. 2404.10102", loss="huber",
        domain="axes > 0, varied off the compute-optimal diagonal",
    )
)  # fmt: skip
register(
    Form(
        "shape", _shape, ("shape", "samples"),
        (_floor(), _scale("scale"), _exponent("exponent"), _scale("growth_scale"), _exponent("growth"),
         _scale("rest"), _exponent("decay")),
        linear=("floor", "scale", "growth_scale", "rest"),
        formula="{floor} + {scale} * {shape}^-{exponent} + ({growth_scale} * {shape}^{growth} + {rest})"
        " * {samples}^-{decay}",
        source="Alabdulmohsin et al. 2305.13035 (SoViT)", domain="shape has an optimum that grows with samples",
    )
)  # fmt: skip
