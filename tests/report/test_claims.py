"""The claims page: no row is blank, every verdict follows from the committed tables, and a changed table changes it."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from patchscale.laws import published
from patchscale.laws.claims import COLUMNS, claims
from patchscale.report.claims import Evidence, answers, claims_page, read_evidence, rows
from patchscale.report.claims.ablations import equal_compute, extending, one_recipe, overgrown
from patchscale.report.claims.answer import VERDICTS, FromTable, HeldByTest
from patchscale.report.claims.guide import claims_guide
from patchscale.report.claims.judges import contrast, refines, trend

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def results() -> list[Evidence]:
    return read_evidence(ROOT / "results")


def table(**columns: list) -> Evidence:
    """A study's table with these columns; every column but the scores is an axis."""
    frame = pd.DataFrame(columns)
    scores = {"test_loss", "miou", "tokens", "params_without_positions"}
    return Evidence("here", "mine", "tiny", "digits_in_clutter", frame, tuple(set(columns) - scores), {})


def test_no_row_is_blank_and_every_claim_is_answered_once() -> None:
    found = claims()
    assert list(found.columns) == COLUMNS
    assert list(found["id"]) == list(published("claims")["id"])
    assert set(rows()) == set(found["id"])
    assert set(found["verdict"]) <= set(VERDICTS)
    for column in ("statement", "study", "scale", "measured", "verdict"):
        assert all(found[column].str.strip()), column


def test_every_promise_of_software_names_a_test_that_exists() -> None:
    named = [row.test for row in rows().values() if isinstance(row, HeldByTest)]
    for name in named:
        file, _, function = name.partition("::")
        assert f"def {function}(" in (ROOT / file).read_text(), name


def test_the_package_s_answers_are_those_of_the_results(results: list[Evidence]) -> None:
    """After a change under results/: make claims."""
    now, kept = answers(results).fillna(""), claims()
    for column in ("study", "scale", "verdict", "measured", "evidence"):
        assert dict(zip(now["id"], now[column], strict=True)) == dict(zip(kept["id"], kept[column], strict=True))


def test_the_guide_is_that_of_the_answers() -> None:
    """After a change of the answers: make claims."""
    assert (ROOT / "docs" / "claims.md").read_text() == claims_guide(claims())


def test_a_changed_table_changes_the_verdict(results: list[Evidence]) -> None:
    (home,) = [one for one in results if one.place == "tiny_imagenet"]
    turned = dataclasses.replace(home, table=home.table.assign(test_loss=10 - home.table["test_loss"]))
    row = rows()["p-fig1a"]
    assert row.answer([home]).verdict == "reproduced"
    assert row.answer([turned]).verdict == "not reproduced"
    assert row.answer([]).verdict == "not measured yet"


def test_the_strongest_scale_answers_and_several_tables_must_agree() -> None:
    falling = table(
        model=["a"] * 6, patch_size=[8, 4] * 3, random_seed=[0, 0, 1, 1, 2, 2], test_loss=[2, 1, 2.1, 1, 2, 1.1]
    )
    rising = dataclasses.replace(falling, table=falling.table.assign(patch_size=[4, 8] * 3), scale="small")
    row = FromTable("mine", refines())
    assert row.answer([falling]).verdict == "reproduced"
    assert row.answer([falling, rising]).verdict == "not reproduced"
    assert row.answer([falling, dataclasses.replace(rising, scale="tiny")]).verdict == "inconclusive"


def test_one_random_seed_decides_nothing() -> None:
    one = table(model=["a", "a"], patch_size=[8, 4], random_seed=[0, 0], test_loss=[2.0, 1.0])
    for judge in (refines(), trend()):
        text, verdict = judge(one)
        assert verdict == "inconclusive"
    assert "-1 (1 random seed: no interval)" in text


def test_contrast_pairs_random_seeds_and_knows_finest() -> None:
    decoders = table(
        model=["a"] * 6, patch_size=[16, 8, 16] * 2, random_seed=[0, 0, 0, 1, 1, 1],
        **{"task.decoder": ["linear", "linear", "upernet"] * 2}, miou=[0.3, 0.5, 0.4, 0.32, 0.53, 0.42],
    )  # fmt: skip
    fine, plain = {"task__decoder": "linear", "patch_size": "finest"}, {"task__decoder": "upernet", "patch_size": 16}
    text, verdict = contrast("miou", fine, plain, "fine linear less UperNet", lower=False)(decoders)
    assert (text, verdict) == ("miou, a: fine linear less UperNet +0.105 (+0.0734 to +0.137)", "reproduced")
    assert contrast("miou", plain, fine, "the other way", lower=False)(decoders)[1] == "not reproduced"


def test_extending_a_sequence_is_judged_beside_real_patches() -> None:
    def study(extended: float) -> Evidence:
        losses = [value + 0.01 * seed for seed in (0, 1, 2) for value in (2.0, extended, 1.5)]
        return table(
            model=["a"] * 9, patch_size=[16, 16, 8] * 3, sequence_extension=[1, 2, 1] * 3, tokens=[4, 16, 16] * 3,
            random_seed=[0, 0, 0, 1, 1, 1, 2, 2, 2], test_loss=losses,
        )  # fmt: skip

    assert extending(study(1.98))[1] == "reproduced"
    assert extending(study(1.55))[1] == "not reproduced"


def test_one_rate_for_all_patch_sizes() -> None:
    def study(best_at_fine: float) -> Evidence:
        cells = [(seed, patch, rate) for seed in (0, 1) for patch in (16, 8) for rate in (0.001, 0.003)]
        best = {16: 0.001, 8: best_at_fine}
        return table(
            model=["a"] * 8, random_seed=[c[0] for c in cells], patch_size=[c[1] for c in cells],
            **{"recipe.learning_rate": [c[2] for c in cells]},
            test_loss=[(1.0 if c[2] == best[c[1]] else 1.5 + (c[1] == 16)) + 0.01 * c[0] for c in cells],
        )  # fmt: skip

    assert one_recipe(study(0.001))[1] == "reproduced"
    assert one_recipe(study(0.003))[1] == "not reproduced"


def test_overgrown_patches_need_a_rising_loss() -> None:
    sizes = table(
        model=["a"] * 4, input_size=[16, 32] * 2, random_seed=[0, 0, 1, 1], test_loss=[1.0, 1.3, 1.02, 1.3],
        params_without_positions=[100, 400] * 2,
    )  # fmt: skip
    text, verdict = overgrown(sizes)
    assert "parameters x 4.00" in text
    assert verdict == "reproduced"


def test_a_peak_in_between_is_double_descent() -> None:
    def study(*verdicts: str) -> Evidence:
        models = [{"model": f"m{i}", "worst": 100, "verdict": verdict} for i, verdict in enumerate(verdicts)]
        rows = [{"model": "m0", "repeats": 1, "rise": 0.001}, {"model": "m0", "repeats": 100, "rise": 0.3}]
        laws = {"repeated_data": [{"group": {"recipe.augmented": False}, "models": models, "rows": rows}]}
        return dataclasses.replace(table(model=["m0"]), study="repeated_data", laws=laws)

    row = rows()["rep-double"]
    assert row.answer([study("peak", "peak")]).verdict == "reproduced"
    assert row.answer([study("rises")]).verdict == "not reproduced"
    assert row.answer([study("peak", "no harm seen")]).verdict == "inconclusive"
    assert rows()["rep-midway"].answer([study("peak")]).verdict == "reproduced"


def captions(copying: float, heads: float) -> Evidence:
    """One width at R = 1 and 100, three random seeds: what copying costs and how heads look at the worst R."""
    cells = [(seed, repeats) for seed in (0, 1, 2) for repeats in (1, 100)]
    found = table(
        model=["a"] * 6, random_seed=[seed for seed, _ in cells], **{"data.repeats": [r for _, r in cells]},
        test_loss=[1.0] * 6, **{"task.language_width": [32] * 6},
        first_saying_loss=[0.4 if r == 1 else 0.44 for _, r in cells],
        copying_loss=[0.01 * (1 + 0.01 * seed) if r == 1 else 0.01 * copying for seed, r in cells],
        answer_prefix_matching=[0.2 if r == 1 else 0.2 * heads + 0.001 * seed for seed, r in cells],
    )  # fmt: skip
    return dataclasses.replace(found, study="repeated_captions")


def test_copying_suffers_more_if_its_loss_grows_by_a_larger_factor() -> None:
    row = rows()["rep-copying"]
    found = row.answer([captions(3.0, 1.0)])
    assert found.verdict == "reproduced"
    assert "width 32, R = 100: copying 0.0101 to 0.03, first saying 0.4 to 0.44" in found.measured
    assert row.answer([captions(1.0, 1.0)]).verdict == "not reproduced"
    assert row.answer([captions(1.11, 1.0)]).verdict == "inconclusive"


def test_heads_suffer_if_they_look_less_at_the_word_to_copy() -> None:
    row = rows()["rep-induction"]
    assert row.answer([captions(3.0, 0.5)]).verdict == "reproduced"
    assert row.answer([captions(3.0, 1.5)]).verdict == "not reproduced"
    assert "-50 %" in row.answer([captions(3.0, 0.495)]).measured


def test_equal_compute_extrapolates_nothing() -> None:
    """A larger model within the small one's FLOPs is met by interpolation, a dearer one by the finest patch."""

    def study(loss: float) -> Evidence:
        rows = [("s", 16, 1e6, 2.0), ("s", 8, 4e6, 1.8), ("m", 16, 2e6, 1.95), ("l", 16, 16e6, loss)]
        cells = [(seed, *row) for seed in (0, 1) for row in rows]
        return table(
            model=[f"deit_{c[1]}" for c in cells], patch_size=[c[2] for c in cells],
            random_seed=[c[0] for c in cells], flops_per_image=[c[3] for c in cells],
            params=[{"s": 1, "m": 2, "l": 3}[c[1]] for c in cells],
            test_loss=[c[4] + 0.001 * c[0] * (c[1] == "s") for c in cells],
        )  # fmt: skip

    text, verdict = equal_compute("deit")(study(1.9))
    assert verdict == "reproduced"
    assert "deit_s with finer patches less deit_m at patch 16: -0.0495" in text
    assert "deit_l at patch 16, which costs 4 times the FLOPs: -0.0995" in text
    assert equal_compute("deit")(study(1.7))[1] == "inconclusive"


def test_the_page_has_every_claim_and_loads_nothing() -> None:
    found = claims()
    page = claims_page(found)
    for claim in found["id"]:
        assert f'id="{claim}"' in page
    assert "http://" not in page
    assert "https://" not in page
    assert "var(--published)" in page
    assert "var(--measured)" in page


def test_the_command_prints_claims_without_torch() -> None:
    code = "import sys; from patchscale.cli import main; sys.argv = ['patchscale', 'published', '--claims', '--json']\n"
    code += "try: main()\nexcept SystemExit: print('torch' in sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip() == "False"
    assert {row["id"] for row in json.loads(done.stdout)} == set(published("claims")["id"])
