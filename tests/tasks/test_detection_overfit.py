"""A detector can learn twenty real photographs by heart: encoder, pyramid, proposals, heads and AP work together."""

from __future__ import annotations

import json

import pytest
import torch

from patchscale.data import DataSpec
from patchscale.data.boxes import BoxSet, load_boxes
from patchscale.data.boxes.box_set import FileBoxes
from patchscale.tasks import ModelSpec
from patchscale.tasks.detection.ap import truth_of
from patchscale.training import Recipe, TrialConfig, train

IMAGES, LEAST_SIDE = 20, 16


def with_large_objects(data: BoxSet) -> list[int]:
    """The first images all of whose objects are at least 16 pixels wide and high, crowds aside."""
    chosen = []
    for index in range(len(data)):
        record = data.record(index)
        sides = record.boxes[:, 2:] - record.boxes[:, :2]
        if len(sides) and (sides >= LEAST_SIDE).all() and not record.crowd.any():
            chosen.append(index)
    return chosen[:IMAGES]


@pytest.mark.slow
def test_twenty_images_are_learnt_by_heart(real_data, tmp_path, monkeypatch):
    """Ten to twenty minutes on one core; box AP50 of 0.8 or more on the images it was trained on."""
    monkeypatch.setenv("PATCHSCALE_DATA", str(real_data))
    data = load_boxes(DataSpec(name="coco-small"))
    assert isinstance(data, FileBoxes)
    chosen = with_large_objects(data)
    assert len(chosen) == IMAGES
    truth, numbers = truth_of(data), {data.record(index).image_id for index in chosen}
    for key, name in (("images", "id"), ("annotations", "image_id")):
        truth[key] = [one for one in truth[key] if one[name] in numbers]
    for index in chosen:
        (tmp_path / data.record(index).name).symlink_to(data.files[index])
    (tmp_path / "twenty.json").write_text(json.dumps(truth))
    config = TrialConfig(
        task="detection",
        task_options={
            "width": 64,
            "box_hidden": 256,
            "masks": False,
            "anchor_scale": 4,
            "anchors_sampled": 128,
            "proposals": 200,
            "rois_sampled": 64,
            "roi_samples": 1,
            "jitter": [1.0, 1.0],
        },
        model=ModelSpec(name="deit_nano_patch16", patch_size=8, input_size=256, positions="sincos"),
        data=DataSpec(name=str(tmp_path / "twenty.json")),
        recipe=Recipe(steps=700, batch_size=4, learning_rate=1e-3, warmup_steps=50, precision="float32"),
        evaluations=4,
    )
    row = train(config, tmp_path / "trial", device=torch.device("cpu"))
    assert row["box_ap50"] >= 0.8, row
