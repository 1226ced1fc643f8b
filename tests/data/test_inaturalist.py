"""iNaturalist's json files over images of real digits."""

from __future__ import annotations

import json
import os

import pytest

from patchscale.data import DataSpec, inaturalist, load
from patchscale.data.expectation import Expectation
from patchscale.errors import InputError


@pytest.fixture
def inat(class_folders):
    """The class folders described as iNaturalist 2019 describes its images."""
    categories = [{"id": number, "name": f"digit-{digit}"} for number, digit in enumerate((2, 5, 7))]
    for split, folder in (("train", "train"), ("val", "val")):
        files = sorted((class_folders / folder).rglob("*.png"))
        ids = {category["name"]: category["id"] for category in categories}
        content = {
            "categories": categories[::-1],
            "images": [
                {"id": 900 - n, "file_name": str(file.relative_to(class_folders))} for n, file in enumerate(files)
            ],
            "annotations": [
                {"image_id": 900 - n, "category_id": ids[file.parent.name]} for n, file in enumerate(files)
            ],
        }
        (class_folders / f"{split}2019.json").write_text(json.dumps(content))
    return class_folders


def test_labels_and_files_follow_the_json(inat):
    expected = Expectation("inaturalist-19", {"train": 18, "test": 6}, 3)
    images = inaturalist.load_inaturalist(inat, DataSpec(), "train", (8, 8), expected)
    assert images.classes == ("digit-2", "digit-5", "digit-7")
    assert images.labels.tolist() == [2] * 6 + [1] * 6 + [0] * 6
    folders = load(DataSpec(name=str(inat)), "train", (8, 8))
    assert (images.read([0]) == folders.read([17])).all()


def test_changed_labels_are_not_taken_from_the_cache(inat):
    expected = Expectation("inaturalist-19", {"train": 18, "test": 6}, 3)
    before = inaturalist.load_inaturalist(inat, DataSpec(), "train", (8, 8), expected)
    table = inat / "train2019.json"
    content = json.loads(table.read_text())
    for note in content["annotations"]:
        note["category_id"] = 2 - note["category_id"]
    table.write_text(json.dumps(content))
    os.utime(table, ns=(1, 1))
    after = inaturalist.load_inaturalist(inat, DataSpec(), "train", (8, 8), expected)
    assert after.labels.tolist() == [2 - label for label in before.labels.tolist()]


def test_counts_and_files_are_checked(inat):
    with pytest.raises(
        InputError,
        match=r"has 3,030 images of 1,010 classes .* holds 6 images of 3",
    ):
        load(DataSpec(name="inaturalist-19", root=str(inat)), "test", (8, 8))
    for file in (inat / "val").rglob("*.png"):
        file.unlink()
    with pytest.raises(InputError, match="which does not exist; unpack the images there"):
        inaturalist.read_annotations(inat, "2019", "test")
    (inat / "train2019.json").write_text("{}")
    with pytest.raises(InputError, match="not an iNaturalist annotation file"):
        inaturalist.read_annotations(inat, "2019", "train")
    with pytest.raises(InputError, match=r"train2018\.json does not exist"):
        load(DataSpec(name="inaturalist-18", root=str(inat)), "train", (8, 8))
