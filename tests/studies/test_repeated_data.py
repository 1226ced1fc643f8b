"""Repeats as an axis: from YAML to what the study says of them."""

from __future__ import annotations

import pytest

from patchscale import studies
from patchscale.errors import InputError
from patchscale.studies import load_study
from patchscale.studies.check import check
from patchscale.studies.counting import planned

SMALL = [
    "axes.model=[deit_zepto_patch16]", "axes.patch_size=[8]", "axes.input_size=[16]", "axes.data.repeats=[1,8]",
    "axes.recipe.augmented=[false,true]", "axes.random_seed=[0,1]", "skip=[]", "recipe.steps=10",
    "recipe.warmup_steps=0", "recipe.batch_size=16", "data.train_size=160", "data.test_size=32", "evaluations=1",
    "even_evaluations=2", "laws.forms=[power]",
]  # fmt: skip


def test_the_preset_asks_the_published_question():
    small = load_study("repeated_data", scale="small")
    trials = small.trials()
    assert len(trials) == 3 * 2 * (3 * 8 + 1)
    assert small.task == "masked"
    assert {trial.axes["data.repeats"] for trial in trials} >= {1, 10_000}
    samples = {trial.config.recipe.total_steps(small.data.train_size or 0) * 64 for trial in trials}
    assert samples == {102_400}
    assert len({trial.config.model.name for trial in trials if trial.axes["data.repeats"] == 1}) == 4
    paper = load_study("repeated_data", scale="paper")
    assert paper.axes["data.repeat_fraction"] == [0.01, 0.03, 0.1, 0.5, 0.9]
    rows, _ = planned(paper)
    assert {row["tokens"] for row in rows} == {256}
    assert paper.recipe.total_steps(0) * paper.recipe.batch_size * 256 == 100_000_000_000


def test_a_study_of_repeats_ends_in_what_it_says(tmp_path):
    study = load_study("repeated_data", settings=SMALL)
    outcome = studies.run(study, tmp_path / "run", workers=1, say=lambda line: None)
    assert not outcome.failed
    table = studies.results(tmp_path / "run")
    assert len(table) == 2 * 2 * 2
    assert set(table["recipe.augmented"]) == {False, True}
    assert {"repeated_loss", "unique_recall"} <= set(table.columns)
    off, on = outcome.laws["repeated_data"]
    assert (off["group"]["recipe.augmented"], on["group"]["recipe.augmented"]) == (False, True)
    for entry in (off, on):
        assert [row["repeats"] for row in entry["rows"]] == [1, 8]
        assert {row["seeds"] for row in entry["rows"]} == {2}
        assert all("rise" in row for row in entry["rows"])
        assert entry["notes"] == ["effective sizes need 4 model sizes without repetition; 1 are finished"]


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("data.train_size=150", "sees 160 different images in 160 samples, but there are 150 training images"),
        ("axes.data.repeats=[1,17]", "repeats 17 is more than the 16 samples"),
        ("recipe.augment_repeats=3", "augment_repeats 3 would repeat"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(setting, message):
    study = load_study("repeated_data", settings=[*SMALL, setting])
    with pytest.raises(InputError, match=message):
        planned(study)
    with pytest.raises(InputError, match=message):
        check(study)


def test_off_means_that_images_are_seen_as_they_are():
    study = load_study("repeated_data", settings=SMALL)
    off, on = (
        next(t.config.recipe.regularisation for t in study.trials() if t.axes["recipe.augmented"] is wanted)
        for wanted in (False, True)
    )
    assert (off.augment.crop_padding, off.augment.horizontal_flip) == (0, 0.0)
    assert (on.augment.crop_padding, on.augment.horizontal_flip) == (2, 0.5)
