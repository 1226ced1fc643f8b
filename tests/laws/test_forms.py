"""Every form recovers its parameters from exact data; users add forms; the import needs no torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from patchscale import laws
from patchscale.errors import InputError


def grid(*axes) -> np.ndarray:
    return np.array(np.meshgrid(*axes)).reshape(len(axes), -1).astype(float)


def repeated() -> np.ndarray:
    params, repeats, unique = grid(np.geomspace(1e6, 1e9, 5), [1, 2, 4, 10, 30, 100], np.geomspace(1e6, 1e9, 5))
    return np.stack([params, repeats * unique, unique])


LINE = grid(np.geomspace(4, 65536, 40))
PLANE = grid(np.geomspace(1e6, 1e9, 6), np.geomspace(16, 4096, 5))
SPACE = grid(np.geomspace(1e6, 1e9, 5), np.geomspace(16, 4096, 4), np.geomspace(1e6, 1e9, 4))
EXACT = {
    "power": (LINE, [2, 0.3]),
    "power_floor": (LINE, [0.8, 2, 0.5]),
    "saturating": (LINE, [80, 60, 0.4]),
    "shifted_floor": (LINE, [0.12, 0.63, 0.32, 30]),
    "log_linear": (LINE, [3, -0.2]),
    "quadratic_loglog": (LINE, [2, 0.5, -0.03]),
    "logistic": (LINE, [90, 40, 0.8]),
    "broken": (LINE, [0.3, 2, 0.2, 0.6, 500, 0.4]),
    "broken_twice": (grid(np.geomspace(4, 1e6, 80)), [0.3, 2, 0.4, -0.9, 100, 0.3, 1.3, 50, 0.4]),
    "additive": (PLANE, [0.5, 20, 0.3, 2, 0.5]),
    "additive_interaction": (PLANE, [0.5, 20, 0.3, 8, 0.5, 0.1]),
    "multiplicative": (PLANE, [0.5, 40, 0.2, 0.3]),
    "additive_three": (SPACE, [0.5, 20, 0.3, 2, 0.5, 50, 0.35]),
    "additive_three_interaction": (SPACE, [0.5, 20, 0.3, 8, 0.5, 50, 0.35, 0.1]),
    "multiplicative_three": (SPACE, [0.5, 400, 0.2, 0.3, 0.1]),
    "chinchilla": (
        grid(np.geomspace(5e7, 1e10, 10), np.geomspace(1e9, 1e12, 10)),
        [1.8172, 482.01, 2085.43, 0.3478, 0.3658],
    ),
    "shape": (grid(np.geomspace(64, 4096, 7), np.geomspace(1e6, 1e9, 7)), [0.1, 5, 0.6, 0.5, 0.4, 3, 0.25]),
    "data_constrained": (repeated() * [[1], [30], [30]], [1.87, 521, 1488, 0.35, 0.37, 15, 5]),
    "repeat_overfit": (repeated(), [1.2, 100, 400, 0.3, 0.35, 0.02, 0.6, 0.4]),
    "repeat_bounded": (repeated(), [0.1, 0.99, 2e6, 0.5, 3e7, 0.4, 0.2, 1e6, 0.3]),
    "vision_tokens": (grid([1, 8, 16, 32, 64, 128, 256, 384, 512, 768]), [20, 12, 0.5]),
}


def test_every_registered_form_is_checked():
    assert {form.name for form in laws.list_forms()} == set(EXACT)


@pytest.mark.parametrize("name", EXACT)
def test_exact_data_give_the_parameters_back(name):
    axes, truth = EXACT[name]
    form = laws.get_form(name)
    table = pd.DataFrame(dict(zip(form.axes, axes, strict=True)))
    table["y"] = form(tuple(axes), np.array(truth, dtype=float))
    (law,) = laws.fit(table, x=form.axes, y="y", form=name, bootstrap=0, held_out=False)
    assert list(law.values.values()) == pytest.approx(truth, rel=1e-6)
    assert law.starts["agree"] >= 2 or law.starts["searched"] == 1
    assert form.source
    assert form.domain
    assert law.formula.startswith("y = ")
    assert "--" not in law.formula


def test_broken_law_follows_double_descent():
    form = laws.get_form("broken_twice")
    values = form(tuple(grid(np.geomspace(4, 1e6, 80))), np.array([0.3, 2, 0.4, -0.9, 100, 0.3, 1.3, 50, 0.4]))
    turns = np.sign(np.diff(values))
    assert turns[0] == turns[-1] == -1
    assert (turns == 1).any()


def test_a_user_adds_a_form_in_a_few_lines():
    form = laws.Form(
        "log_corrected",
        lambda x, scale, exponent: scale * np.log(x) * x**-exponent,
        axes=("x",),
        parameters=(laws.Parameter("scale", low=0, log=True), laws.Parameter("exponent", low=0, search=(0.05, 2))),
        linear=("scale",),
        formula="{scale} * log({x}) * {x}^-{exponent}",
    )
    table = pd.DataFrame({"tokens": [4.0, 16, 64, 256, 1024]})
    table["test_loss"] = 3 * np.log(table.tokens) * table.tokens**-0.4
    (law,) = laws.fit(table, form=form)
    assert law.values == pytest.approx({"scale": 3, "exponent": 0.4}, rel=1e-6)
    assert law.formula == "test_loss = 3 * log(tokens) * tokens^-0.4"


def test_bad_forms_are_refused():
    good = laws.get_form("power")
    with pytest.raises(InputError, match="exists already"):
        laws.register(good)
    with pytest.raises(InputError, match="takes 3 arguments"):
        laws.register(laws.Form("bad", good.function, ("x", "z"), good.parameters))
    with pytest.raises(InputError, match="parameter 'scale' is not linear and needs a search"):
        laws.register(laws.Form("bad", good.function, ("x",), good.parameters))
    with pytest.raises(InputError, match="linear parameter 'size' is none of scale, exponent"):
        laws.register(laws.Form("bad", good.function, ("x",), good.parameters, linear=("size",)))


def test_laws_need_only_numpy_scipy_and_pandas():
    code = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "timm", "pydantic", "matplotlib", "plotly", "sklearn"}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Blocked())
import pandas as pd
from patchscale import laws
x = [4.0, 16, 64, 256, 1024]
law = laws.fit(pd.DataFrame({"tokens": x, "test_loss": [0.8 + 2 * v**-0.5 for v in x]}))[0]
assert abs(law.values["floor"] - 0.8) < 1e-6
assert len(laws.published(1)) == 24
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
