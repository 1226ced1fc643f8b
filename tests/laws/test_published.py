"""Published numbers: the tables, the 36 vision-token fits, the laws of tables 1 to 5, the joint law of table 4."""

from __future__ import annotations

import numpy as np
import pytest

from patchscale import laws
from patchscale.errors import InputError
from patchscale.laws.published_laws import visual_bases_minimum


def test_tables_are_there():
    assert len(laws.published(1)) == 24
    assert len(laws.published("4")) == 35
    assert len(laws.published()) == 208
    assert len(laws.published("claims")) > 100
    assert len(laws.published("vlm")) == 54 * 10
    assert set(laws.published("T2")["tokens_kept"]) == {16, 32, 64, 96, 128, 160}
    with pytest.raises(InputError, match="no published table 9"):
        laws.published(9)


def test_all_36_published_vision_token_fits():
    """To 1e-3, beyond what the rounding of the recovered scores to 0.01 moves (one curve starts at 1.52)."""
    curves = laws.published("vlm").set_index(["variant", "metric"])
    fits = laws.published("vlm_fits")
    assert len(fits) == 36
    for fit in fits.itertuples():
        curve = curves.loc[(fit.variant, fit.metric)].reset_index()
        (law,) = laws.fit(curve, "vision_tokens", "score", form="power", bootstrap=0, held_out=False, starts=32)
        log_n = np.log(curve["vision_tokens"]) - np.log(curve["vision_tokens"]).mean()
        weight = 0.1 + np.abs(log_n * log_n.abs().max()) / np.sum(log_n**2)
        rounding = float(np.sum(weight * 0.005 / curve["score"]))
        assert law.values["exponent"] == pytest.approx(fit.alpha, abs=1e-3)
        assert law.values["scale"] == pytest.approx(fit.c, rel=1e-3 + rounding * (fit.c < 5))


@pytest.mark.slow
def test_forms_on_the_vision_token_curves_come_out_as_known():
    summary = laws.vlm_summary().set_index(["variant", "form"])
    aicc = summary["aicc"]
    known = {
        "vqq": {"power": -714, "log_linear": -777, "saturating": -797, "quadratic_loglog": -765},
        "vq_ft": {"power": -611, "log_linear": -674, "saturating": -614, "quadratic_loglog": -631},
    }
    for variant, values in known.items():
        for form, value in values.items():
            assert aicc[variant, form] == pytest.approx(value, abs=1), (variant, form)
        assert summary["wins"][variant, "vision_tokens"] == 0
        error = summary["extrapolation_error"][variant]
        assert error["power"] > 2 * max(error["saturating"], error["log_linear"])
    assert dict(summary["wins"]["vqq"].drop("vision_tokens")) == {
        "power": 6, "saturating": 6, "log_linear": 5, "quadratic_loglog": 1
    }  # fmt: skip
    assert dict(summary["wins"]["vq_ft"].drop("vision_tokens")) == {
        "power": 7, "log_linear": 6, "quadratic_loglog": 3, "saturating": 2
    }  # fmt: skip


def test_one_vision_token_curve_saturates():
    curve = laws.published("vlm").query("variant == 'vqq' and metric == 'Final Score@OCRBench'")
    (found,) = laws.compare(
        curve, "vision_tokens", "score", ("power", "vision_tokens", "saturating"), held_from=256, starts=64, polish=6
    )
    assert found.rows[0]["form"] == "saturating"
    (law,) = laws.fit(curve, "vision_tokens", "score", form="power", bootstrap=0, held_out=False, starts=32)
    assert law.predict(768)[0] == pytest.approx(717, abs=1)


def test_series_of_tables_one_to_five():
    series = laws.published_series()
    sizes = series.groupby("table").size().to_dict()
    assert sizes == {1: 24, 2: 8, 3: 60, 4: 35, 5: 14}
    assert series["tokens"].notna().all()
    ade = series.query("table == 2 and patch == 16")
    assert set(ade["tokens"]) == {1024}


@pytest.mark.slow
def test_laws_of_every_published_row():
    table = laws.published_laws(bootstrap=50)
    assert len(table) == 30
    pixel = table.query("table == 1 and model == 'Adventurer-B' and input == '224'").iloc[0]
    assert pixel["floor_identified"]
    assert 15.2 < pixel["floor_low"] < pixel["floor"] < pixel["floor_high"] < 15.6
    extending = table.query("table == 5 and series == 'by extending' and model == 'DeiT-B'").iloc[0]
    assert not extending["exponent_identified"]
    assert "3 points for 3 parameters" in extending["sentence"]


@pytest.mark.slow
def test_extrapolation_to_pixels_favours_the_floor():
    table = laws.published_extrapolation()
    assert set(table["patch"]) == {1, 2}
    error = table["error"].abs().groupby(table["form"]).mean()
    assert error["power_floor"] < 0.5
    assert error["power"] > 3 * error["power_floor"]


@pytest.mark.slow
def test_table_four_shows_an_interaction_of_size_and_tokens():
    assert len(laws.published_grid()) == 35
    tests = laws.published_interaction()
    assert set(tests) == {"128", "224", "all"}
    for test in tests.values():
        assert test["verdict"] == "interaction"
        assert test["exponent"]["low"] > 0


def test_published_minimum_of_vit_b():
    row = visual_bases_minimum().iloc[0]
    assert (row["published"], row["recomputed"]) == (117, 117)
    assert row["interpolated"] == pytest.approx(116.3, abs=0.05)
