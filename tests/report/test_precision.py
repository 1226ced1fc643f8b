"""The panel of detectors: curves as the trials left them, AP by size from the table."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from patchscale.report.payload import clean, payload
from patchscale.report.precision import precision_curves
from patchscale.report.run import read

AXES = ["model", "patch_size"]


@pytest.fixture
def detection_run(predicted_run) -> Path:
    """A run whose trials left curves: every precision is 1 / patch size; AP of small objects is random seed / 10."""

    def leave(row: dict, place: Path) -> dict:
        curve = {"recall": [0.0, 0.5, 1.0], "precision": [1 / row["patch_size"]] * 3}
        index = {"kind": "detection", "images": [], "classes": [{"class": "disc", "box_ap": 0.5}]}
        return index | {"curves": {"box": curve, "mask": curve}}

    return predicted_run(leave)


def with_sizes(folder: Path):
    run = read(folder)
    run.results["box_ap_small"] = run.results["random_seed"] / 10
    run.results["mask_ap_large"] = float("nan")
    return run


def test_curves_of_one_random_seed_coarse_patches_first(detection_run) -> None:
    found = precision_curves(with_sizes(detection_run), AXES)
    assert found is not None
    patches = [entry["patch_size"] for entry in found["configurations"]]
    assert patches == [24, 16, 12, 8] * 2
    assert set(found["curves"]) == {"box", "mask"}
    assert [line["precision"][0] for line in found["curves"]["mask"]] == [1 / patch for patch in patches]
    assert found["sizes"] == [{"score": "box AP, small objects", "values": [0.0] * 8}]
    assert found["seed"] == 0


def test_only_detectors_have_the_panel(run_directory, detection_run) -> None:
    assert precision_curves(read(run_directory), AXES) is None
    data = payload([read(detection_run)])
    assert data["precision"]["curves"]["box"]
    json.dumps(clean(data["precision"]), allow_nan=False)
