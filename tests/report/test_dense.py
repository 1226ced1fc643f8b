"""The panel of dense predictions: one column per configuration, pictures and numbers as the trials left them."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from patchscale.report.dense import dense_pictures
from patchscale.report.payload import payload
from patchscale.report.run import read
from patchscale.tasks.segmentation.pictures import label_png, palette

AXES = ["model", "patch_size"]
CLASSES = ("ground", "disc", "never seen")


@pytest.fixture
def dense_run(predicted_run) -> Path:
    """A run whose trials left predictions: every label is the trial's patch size, every IoU its seed / 10."""

    def leave(row: dict, place: Path) -> dict:
        parts = {"image": 7, "truth": 1, "prediction": row["patch_size"]}
        for part, value in parts.items():
            (place / f"0_{part}.png").write_bytes(label_png(np.full((4, 6), value, np.uint8), palette(3)))
        ious = (row["random_seed"] / 10, 0.25, None)
        return {
            "kind": "segmentation",
            "images": [{"index": 0, **{part: f"0_{part}.png" for part in parts}}],
            "classes": [
                {"class": name, "colour": [1, 2, 3], "iou": iou} for name, iou in zip(CLASSES, ious, strict=True)
            ],
        }

    return predicted_run(leave)


def value_of(address: str) -> int:
    content = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(content)) as image:
        return int(np.unique(np.asarray(image)).item())


def test_a_column_per_configuration_coarse_patches_first(dense_run) -> None:
    found = dense_pictures(read(dense_run), AXES)
    assert found is not None
    patches = [entry["patch_size"] for entry in found["configurations"]]
    assert patches == [24, 16, 12, 8] * 2
    (image,) = found["images"]
    assert [value_of(address) for address in image["predictions"]] == patches
    assert (value_of(image["image"]), value_of(image["truth"])) == (7, 1)
    assert found["seed"] == 0
    assert found["scores"] == ["IoU"]
    assert found["classes"][0] == {"class": "ground", "colour": [1, 2, 3], "values": [[0.0]] * 8}
    assert found["classes"][2] == {"class": "never seen", "colour": [1, 2, 3], "values": [[None]] * 8}


def test_a_trial_without_predictions_is_left_out(dense_run) -> None:
    run = read(dense_run)
    first = run.results[run.results["random_seed"] == 0]["trial"].iloc[0]
    shutil.rmtree(dense_run / "trials" / first / "predictions")
    found = dense_pictures(run, AXES)
    assert found is not None
    assert len(found["configurations"]) == len(found["images"][0]["predictions"]) == 7


def test_a_study_without_predictions_has_no_panel(run_directory, dense_run) -> None:
    assert dense_pictures(read(run_directory), AXES) is None
    assert payload([read(run_directory)])["dense"] is None
    assert payload([read(dense_run)])["dense"]["classes"][1]["class"] == "disc"
