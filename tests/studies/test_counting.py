"""Cost before anything is run: dry runs of the paper's tables, and the study of nothing but cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchscale import report, studies
from patchscale.errors import InputError
from patchscale.laws import published
from patchscale.studies import load_study
from patchscale.studies.counting import planned
from tests.studies.small import SMALL

FAMILIES = {"DeiT-B": "deit_base_patch16", "Adventurer-B": "adventurer_base_patch16"}


def test_hours_of_the_home_study_agree_with_table_6_where_it_speaks() -> None:
    rows, data = planned(load_study("patchification", scale="paper"))
    assert data.train == 1_281_167
    hours = {(row["model"], row["patch_size"]): row["device_hours"] for row in rows if row["input_size"] == 224}
    cells = published(6).query("metric == 'a100_gpu_hours_per_imagenet_epoch'").to_dict("records")
    compared = [cell for cell in cells if (FAMILIES[cell["model"]], cell["patch"]) in hours]
    assert [cell["patch"] for cell in compared] == [16, 8, 4, 2, 1]
    for cell in compared:
        assert hours[FAMILIES[cell["model"]], cell["patch"]] / 300 == pytest.approx(cell["value"], rel=0.03)


@pytest.mark.parametrize("name", ["patchification", "segmentation", "detection", "sequence_length", "overhead"])
def test_paper_scale_has_every_cell_of_its_published_table(name: str) -> None:
    """Trials differ in what the tables' rows differ in; nothing of a table is left without a trial."""
    rows, _ = planned(load_study(name, scale="paper"))
    assert all(row["device_hours"] > 0 and row["memory_bytes_per_image"] > 0 for row in rows)
    sizes = {"T": "tiny", "S": "small", "B": "base", "L": "large"}
    numbers = {"patchification": (1, 4), "segmentation": (2,), "detection": (3,), "sequence_length": (5,)}
    for table in numbers.get(name, (6,)):
        for cell in published(table).query("decoder != 'UperNet'").to_dict("records"):
            family, size = cell["model"].replace("ViT", "DeiT").split("-")
            model = f"{family.lower()}_{sizes[size]}_patch16"
            there = [row for row in rows if row["model"] == model and row["patch_size"] == cell["patch"]]
            if cell["tokens"] == cell["tokens"]:
                there = [row for row in there if row["tokens"] == cell["tokens"]]
            assert there, cell


def test_a_study_of_cost_trains_nothing_and_has_table_and_report(tmp_path: Path) -> None:
    study = load_study("overhead")
    outcome = studies.run(study, tmp_path / "run")
    table = studies.results(tmp_path / "run")
    assert len(table) == 10
    assert not list((tmp_path / "run").rglob("checkpoints"))
    for cell in published(6).query("metric == 'memory_mb_per_image'").to_dict("records"):
        (ours,) = table.query(f"model == 'deit_base_patch16' and patch_size == {cell['patch']}")[
            "memory_bytes_per_image"
        ]
        assert ours / 2**20 == pytest.approx(cell["value"], rel=0.04)
    assert outcome.laws is not None
    linear = next(law for law in outcome.laws["laws"] if "adventurer" in law["group"]["model"])
    assert linear["params"]["exponent"]["value"] == pytest.approx(-1, abs=0.01)
    page = report.build([tmp_path / "run"], tmp_path / "page.html").read_text()
    assert "Nothing was trained here" in page
    assert "still falling" not in page.split("<script>")[0]


def test_an_unknown_device_is_one_line() -> None:
    with pytest.raises(InputError, match="unknown device 'a1000'; use one of a100"):
        load_study("overhead", settings=["counting.device=a1000"])


def test_counted_and_trained_rows_never_take_each_other_s_place(tmp_path: Path) -> None:
    """Their trials have the same ids, and the preset's folder is the same."""
    settings = [*SMALL, "recipe.steps=4", "recipe.warmup_steps=0", "axes.patch_size=[16]", "axes.random_seed=[0]"]
    trained = load_study("quickstart", settings=settings)
    counted = load_study("quickstart", settings=[*settings, "counting.device=h100"])
    studies.run(counted, tmp_path / "counted")
    with pytest.raises(InputError, match="whose trials are only counted; choose another --out"):
        studies.run(trained, tmp_path / "counted")
    outcome = studies.run(trained, tmp_path / "trained", reuse=[tmp_path / "counted"])
    (row,) = studies.results(tmp_path / "trained").to_dict("records")
    assert row["steps"] == 4
    before = outcome.run.study_file.read_text()
    with pytest.raises(InputError, match="whose trials are trained; choose another --out"):
        studies.run(counted, tmp_path / "trained")
    assert (outcome.run.result(row["trial"]) or {})["steps"] == 4
    assert outcome.run.study_file.read_text() == before
