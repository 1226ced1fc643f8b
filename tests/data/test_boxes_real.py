"""Real annotated sets, as people have them on disk."""

from __future__ import annotations

import pytest

from patchscale.data import DataSpec
from patchscale.data.boxes import fitted, load_boxes
from patchscale.errors import InputError


@pytest.fixture(autouse=True)
def data_folder(real_data, monkeypatch):
    monkeypatch.setenv("PATCHSCALE_DATA", str(real_data))


@pytest.mark.parametrize(
    ("name", "split", "images", "objects", "crowds"),
    [
        ("coco-small", "train", 103, 1079, 14),
        ("coco-small", "test", 102, 984, 11),
        ("nuclei-dsb2018", "test", 132, 5545, 0),
        ("nuclei-gray", "test", 107, None, 0),
    ],
)
def test_counts_are_those_of_the_set(name, split, images, objects, crowds):
    data = load_boxes(DataSpec(name=name), split)
    records = [data.record(index) for index in range(len(data))]
    assert len(data) == images
    assert objects is None or sum(len(record.boxes) for record in records) == objects
    assert sum(record.crowd.sum() for record in records) == crowds
    assert data.has_masks
    assert not data.skipped


@pytest.mark.parametrize(("split", "image"), [("train", "BloodImage_00343"), ("test", "BloodImage_00338")])
def test_boxes_without_area_of_the_blood_cells_are_named(split, image):
    with pytest.raises(InputError, match=f"{image}.xml, object .* has no area"):
        load_boxes(DataSpec(name="bccd-voc"), split)
    data = load_boxes(DataSpec(name="bccd-voc", bad_images="skip"), split)
    assert data.classes == ("Platelets", "RBC", "WBC")
    assert len(data.skipped) == 1
    assert not data.has_masks
    record = data.record(0)
    assert (record.boxes[:, 2:] <= [record.width, record.height]).all()
    target = data.target(0, fitted((record.height, record.width), (96, 128)), (96, 128), with_masks=False)
    assert len(target.boxes) == len(record.boxes)
