"""Cost before anything is run: dry runs of the paper's tables, and the study of nothing but cost."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchscale import report, studies
from patchscale.errors import InputError
from patchscale.laws import published
from patchscale.studies import load_study
from patchscale.studies.counting import planned

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
