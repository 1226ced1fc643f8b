"""Fits of one-axis laws: recovery, what is not identified, bad tables, dictionaries."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from patchscale import laws
from patchscale.errors import InputError


def table_of(function, x, *, noise=0.0, seeds=1, seed=0, y="test_loss"):
    generator = np.random.default_rng(seed)
    x = np.repeat(np.asarray(x, dtype=float), seeds)
    return pd.DataFrame({"tokens": x, y: function(x) * np.exp(noise * generator.normal(size=len(x)))})


def floor_law(x):
    return 0.8 + 2.0 * x**-0.5


def test_noisy_seeds_give_intervals_that_hold_the_truth():
    table = table_of(floor_law, [4, 16, 64, 256, 1024], noise=0.01, seeds=3)
    (law,) = laws.fit(table, confidence=0.99)
    for name, truth in {"floor": 0.8, "scale": 2.0, "exponent": 0.5}.items():
        assert law.params[name].identified
        assert law.params[name].low < truth < law.params[name].high
        assert law.params[name].bootstrap_low < law.params[name].value < law.params[name].bootstrap_high
    assert law.starts["agree"] >= 10
    assert law.points == 15
    assert law.checks["seed_noise"] == pytest.approx(0.01, rel=0.6)
    assert law.held_out["inside"] == pytest.approx(1.0)
    assert law.held_out["relative_error"] < 0.02


def test_band_holds_the_curve_and_prediction_is_wider():
    table = table_of(floor_law, [4, 16, 64, 256, 1024], noise=0.01, seeds=3)
    (law,) = laws.fit(table, confidence=0.99)
    x = np.array([4.0, 100.0, 5000.0])
    low, high = law.band(x)
    wide_low, wide_high = law.band(x, "prediction")
    assert np.all((low < law.predict(x)) & (law.predict(x) < high))
    assert np.all((wide_low < low) & (high < wide_high))
    assert np.all((low < floor_law(x)) & (floor_law(x) < high))
    assert (high - low)[2] / law.predict(x)[2] > (high - low)[1] / law.predict(x)[1]


def test_floor_that_the_data_cannot_see_is_not_identified():
    (law,) = laws.fit(table_of(lambda x: 2.0 * x**-0.3, [4, 16, 64, 256], noise=0.02, seeds=3))
    floor = law.params["floor"]
    assert not floor.identified
    assert floor.low == 0.0
    assert "reaches zero" in floor.reason
    assert "floor not identified" in law.sentence


def test_flat_data_identify_no_exponent():
    (law,) = laws.fit(table_of(lambda x: 1.5 + 0 * x, [4, 16, 64, 256], noise=0.02, seeds=3))
    assert not law.params["exponent"].identified
    assert "not identified" in law.sentence


@pytest.mark.parametrize("seed", range(6))
def test_flat_data_identify_no_floor_either(seed):
    """A power law of exponent zero fits as well, also where the best fit has no scale left to start from."""
    table = table_of(lambda x: 1.5 + 0 * x, [4, 16, 64, 256], noise=0.02, seed=seed)
    (law,) = laws.fit(table, bootstrap=0, held_out=False)
    assert not law.params["floor"].identified


def test_as_many_points_as_parameters_leave_no_interval():
    (law,) = laws.fit(table_of(floor_law, [4, 16, 64]))
    assert not any(param.identified for param in law.params.values())
    assert "3 points for 3 parameters" in law.params["floor"].reason
    assert law.predict([4.0, 16.0, 64.0]) == pytest.approx(floor_law(np.array([4.0, 16.0, 64.0])), rel=1e-6)
    assert np.isnan(law.band([16.0])[0]).all()
    json.dumps(law.to_dict(), allow_nan=False)


def test_groups_are_laws_of_their_own():
    first, second = table_of(floor_law, [4, 16, 64, 256]), table_of(lambda x: 3 * x**-0.2, [4, 16, 64, 256])
    table = pd.concat([first.assign(model="a"), second.assign(model="b")], ignore_index=True)
    one, two = laws.fit(table, group="model", form="power_floor")
    assert (one.group, two.group) == ({"model": "a"}, {"model": "b"})
    assert one.values["floor"] == pytest.approx(0.8, rel=1e-6)
    assert two.values["floor"] == pytest.approx(0.0, abs=1e-6)
    assert "model=a" in one.sentence


def test_bounded_score_is_fitted_through_its_error():
    table = table_of(lambda x: 100 - (15 + 40 * x**-0.5), [16, 64, 256, 1024, 4096], y="top1")
    (law,) = laws.fit(table, y="top1", bound=100)
    assert law.values["floor"] == pytest.approx(15, rel=1e-6)
    assert law.predict(64.0) == pytest.approx(100 - 20, rel=1e-9)
    assert law.formula.startswith("100 - top1 = ")
    noisy = table_of(lambda x: 100 - (15 + 40 * x**-0.5), [16, 64, 256, 1024, 4096], y="top1", noise=0.003, seeds=3)
    (law,) = laws.fit(noisy, y="top1", bound=100)
    low, high = law.band([256.0])
    assert low < law.predict([256.0]) < high


def test_bounded_score_in_logit_space():
    table = table_of(lambda x: 90 / (1 + (x / 30) ** -0.9), [4, 16, 64, 256, 1024], y="top1")
    (law,) = laws.fit(table, y="top1", bound=100, space="logit", form="logistic")
    assert law.values == pytest.approx({"ceiling": 90, "midpoint": 30, "steepness": 0.9}, rel=1e-6)


def test_weights_count_as_repeats():
    table = table_of(floor_law, [4, 16, 64, 256, 1024], noise=0.02)
    doubled = pd.concat([table, table[table.tokens == 4]], ignore_index=True)
    weighted = table.assign(weight=np.where(table.tokens == 4, 2.0, 1.0))
    (one,), (two,) = laws.fit(doubled), laws.fit(weighted, weights="weight")
    assert one.values == pytest.approx(two.values, rel=1e-6)


def test_huber_ignores_a_diverged_run():
    table = table_of(floor_law, np.geomspace(4, 4096, 12), noise=0.001)
    table.loc[5, "test_loss"] *= 1.5
    (plain,), (robust,) = laws.fit(table), laws.fit(table, loss="huber", huber_delta=0.003)
    assert abs(robust.values["exponent"] - 0.5) < 0.02 < abs(plain.values["exponent"] - 0.5)
    assert 5 in plain.checks["outliers"] + robust.checks["outliers"]


def test_dictionary_is_json_and_has_the_curve():
    (law,) = laws.fit(table_of(floor_law, [4, 16, 64, 256, 1024], noise=0.01, seeds=2))
    content = json.loads(json.dumps(law.to_dict(), allow_nan=False))
    assert content["form"] == "power_floor"
    assert content["x_range"] == [4.0, 1024.0]
    assert {len(column) for column in content["band"].values()} == {60}
    assert set(content["starts"]) == {"searched", "tried", "agree"}
    assert content["params"]["floor"]["low"] < content["params"]["floor"]["value"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda t: t.assign(test_loss=t.test_loss.where(t.tokens != 64, -1.5)),
            r"'test_loss', row 2: .*-1\.5.*not positive",
        ),
        (lambda t: t.assign(test_loss=t.test_loss.where(t.tokens != 64)), "'test_loss', row 2: .*not a finite number"),
        (lambda t: t.rename(columns={"test_loss": "loss"}), "no column 'test_loss'.*tokens, loss"),
        (lambda t: t[:2], "too few points.*3 parameters.*2 distinct"),
        (lambda t: t[:0], "no rows"),
        (lambda t: t.assign(tokens=0), "'tokens', row 0: .*not positive"),
    ],
)
def test_bad_tables_are_named(change, words):
    with pytest.raises(InputError, match=words):
        laws.fit(change(table_of(floor_law, [4, 16, 64, 256])))


def test_bad_arguments_are_named():
    table = table_of(floor_law, [4, 16, 64, 256])
    with pytest.raises(InputError, match=r"unknown form 'powr'.*power_floor"):
        laws.fit(table, form="powr")
    with pytest.raises(InputError, match="bootstrap -1 is negative"):
        laws.fit(table, bootstrap=-1)
    with pytest.raises(InputError, match="confidence 90"):
        laws.fit(table, confidence=90)
    with pytest.raises(InputError, match="not below the bound 1;"):
        laws.fit(table, bound=1)
    with pytest.raises(InputError, match="needs 1 columns"):
        laws.fit(table, x="tokens,test_loss")


def test_too_few_points_in_one_group_names_the_group():
    table = table_of(floor_law, [4, 16, 64, 256]).assign(model=["a", "a", "a", "b"])
    with pytest.raises(InputError, match="model=b"):
        laws.fit(table, group="model")


@settings(deadline=None, max_examples=10)
@given(st.floats(0.01, 100), st.floats(0.01, 1e6))
def test_units_of_x_and_y_change_only_what_they_must(y_unit, x_unit):
    table = table_of(floor_law, [4, 16, 64, 256, 1024], noise=0.01, seeds=2)
    scaled = pd.DataFrame({"tokens": table.tokens * x_unit, "test_loss": table.test_loss * y_unit})
    (one,), (two,) = (laws.fit(t, bootstrap=0, held_out=False, starts=64, polish=4) for t in (table, scaled))
    for name in ("value", "low", "high"):
        assert getattr(two.params["exponent"], name) == pytest.approx(getattr(one.params["exponent"], name), rel=1e-3)
        assert getattr(two.params["floor"], name) == pytest.approx(
            getattr(one.params["floor"], name) * y_unit, rel=1e-3
        )


def test_wrong_form_is_said_to_be_wrong():
    table = table_of(lambda x: 0.8 + 2.0 * x**-0.9, [4, 16, 64, 256, 1024], noise=0.002, seeds=3)
    (law,) = laws.fit(table, form="power")
    assert law.checks["lack_of_fit_p"] < 1e-4
    assert "wrong form" in law.sentence


def test_band_is_the_profile_found_by_brute_force():
    """Four points, three parameters: the widest curve through the cutoff, searched on a grid of exponents."""
    x, y, at = np.array([16.0, 64, 256, 1024]), np.array([3.02, 2.11, 1.71, 1.42]), 4096.0
    (law,) = laws.fit(pd.DataFrame({"tokens": x, "test_loss": y}), bootstrap=0, held_out=False)
    low, high = law.band([at])
    best = float(np.sum(law.problem.residuals(law.place[None, :]) ** 2))
    cutoff = best * (1 + stats.f.ppf(0.9, 1, 1))
    exponents = np.geomspace(1e-4, 20, 400)[:, None, None]
    reached = []
    for level in np.linspace(0.8 * low[0], 1.2 * high[0], 81):
        largest = level * at**exponents
        scale = largest * np.concatenate([np.linspace(0, 1, 200), 1 - np.geomspace(1e-6, 1, 100)])[:, None]
        value = level + scale * (x**-exponents - at**-exponents)
        if np.min(np.sum(np.log(value / y) ** 2, axis=-1)) <= cutoff:
            reached.append(level)
    step = (1.2 * high[0] - 0.8 * low[0]) / 80
    assert low[0] == pytest.approx(min(reached), abs=1.5 * step)
    assert high[0] == pytest.approx(max(reached), abs=1.5 * step)
