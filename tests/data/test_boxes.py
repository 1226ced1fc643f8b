"""Sets with boxes and masks: formats, what is refused or left out, and views that keep boxes and masks together."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from patchscale.data import DataSpec
from patchscale.data.boxes import fitted, jittered, load_boxes, masks, mirror_boxes
from patchscale.errors import InputError

SIZE = (30, 40)  # height, width


def write_coco(folder: Path, annotations: list[dict], size: tuple[int, int] = SIZE, **changes) -> Path:
    """One image of noise and a COCO file that describes it."""
    height, width = size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / "one.png")
    content = {
        "images": [{"id": 7, "file_name": "one.png", "height": height, "width": width}],
        "categories": [{"id": 3, "name": "ring"}, {"id": 1, "name": "disc"}],
        "annotations": [{"id": n, "image_id": 7, "category_id": 3, **one} for n, one in enumerate(annotations, 1)],
    } | changes
    file = folder / "mine.json"
    file.write_text(json.dumps(content))
    return file


def polygon(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def runs(mask: np.ndarray) -> list[int]:
    """Run lengths down the columns, the first of zeros."""
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *lengths] if flat[0] else lengths


def test_all_three_kinds_of_mask_are_the_same_pixels(tmp_path):
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[5:20, 10:30] = 1
    packed = coco_mask.encode(np.asfortranarray(mask))
    kinds = [
        polygon(10, 5, 30, 20),
        {"size": list(SIZE), "counts": runs(mask)},
        {"size": list(SIZE), "counts": packed["counts"].decode()},
    ]
    file = write_coco(tmp_path, [{"bbox": [10, 5, 20, 15], "segmentation": kind} for kind in kinds])
    record = load_boxes(DataSpec(name=str(file)), "train").record(0)
    assert (masks.decode(record.masks, SIZE) == mask).all()
    assert masks.run_lengths(packed["counts"].decode()).tolist() == runs(mask)
    assert record.areas.tolist() == [300.0] * 3
    assert record.labels.tolist() == [1, 1, 1], "classes are in the order of their ids"


@pytest.mark.parametrize("seed", range(5))
def test_packed_run_lengths_are_read_as_pycocotools_writes_them(seed):
    generator = np.random.default_rng(seed)
    mask = (generator.random((37, 53)) < generator.random()).astype(np.uint8)
    assert masks.run_lengths(masks.encode(mask)["counts"].decode()).tolist() == runs(mask)
    assert (masks.decode([masks.encode(mask)], (37, 53))[0] == mask).all()


GOOD = {"bbox": [10, 5, 20, 15], "segmentation": polygon(10, 5, 30, 20)}
BAD = {
    "no area": {"bbox": [10, 5, 0, 15]},
    "not finite": {"bbox": [10, float("nan"), 20, 15]},
    "outside": {"bbox": [10, 5, 200, 15]},
    "lies outside": {"bbox": [40.2, 5, 0.5, 15]},
    "not four numbers": {"bbox": [10, 5, 20]},
    "no category 9": {"category_id": 9},
    "no image 8": {"image_id": 8},
    "its mask is 40x30, its image 30x40": {"segmentation": {"size": [40, 30], "counts": [1200]}},
    "do not add up": {"segmentation": {"size": [30, 40], "counts": [100, 20]}},
    "middle of a number": {"segmentation": {"size": [30, 40], "counts": "abc"}},
    "covers no pixel": {"segmentation": {"size": [30, 40], "counts": [1200]}},
    "but its box": {"segmentation": polygon(1, 1, 9, 9)},
    "at least three points": {"segmentation": [[1, 2, 3, 4]]},
    "not a finite number": {"segmentation": [[1, 2, 3, float("inf"), 4, 5]]},
    "far outside its image": {"segmentation": [[10, 5, 1e9, 5, 30, 20]]},
    "no category \\[3\\]": {"category_id": [3]},
    "no image \\[7\\]": {"image_id": [7]},
    "area 'big' is not a number of pixels": {"area": "big"},
    "area nan is not": {"area": float("nan")},
    "iscrowd '0' is neither": {"iscrowd": "0"},
}


@pytest.mark.parametrize("words", BAD)
def test_bad_annotations_are_named_or_left_out_and_counted(tmp_path, words):
    file = write_coco(tmp_path, [GOOD, GOOD | BAD[words]])
    with pytest.raises(InputError, match=words) as raised:
        load_boxes(DataSpec(name=str(file)))
    assert "mine.json, annotation 2" in str(raised.value)
    assert "\n" not in str(raised.value)
    found = load_boxes(DataSpec(name=str(file), bad_images="skip"))
    assert len(found.record(0).boxes) == 1
    assert len(found.skipped) == 1
    assert re.search(words, found.skipped[0])


def test_files_that_are_no_coco_json_are_refused_in_one_line(tmp_path):
    cases = {
        "not a COCO instances file": "[]",
        "as COCO json": "{",
        "lacks 'width'": json.dumps({"images": [{"id": 1, "file_name": "a", "height": 3}]}),
        "'height' in 'images' must be a whole number": json.dumps(
            {"images": [{"id": 1, "file_name": "a", "height": "3"}]}
        ),
        "an entry of 'images' is 3, not a mapping": json.dumps({"images": [3]}),
        "no images": json.dumps({"images": [], "categories": [], "annotations": []}),
    }
    for words, text in cases.items():
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(InputError, match=words):
            load_boxes(DataSpec(name=str(tmp_path / "x.json")))
    with pytest.raises(InputError, match="no annotated set 'nothing'"):
        load_boxes(DataSpec(name="nothing"))
    with pytest.raises(InputError, match="holds no annotations for the test split"):
        load_boxes(DataSpec(name=str(tmp_path)), "test")


def test_a_size_is_refused_by_files_for_training(tmp_path):
    spec = DataSpec(name=str(write_coco(tmp_path, [GOOD])), train_size=5)
    with pytest.raises(InputError, match=r"data\.train_size 5 means nothing for .*mine\.json"):
        load_boxes(spec, "train")
    assert len(load_boxes(spec, "test")) == 1, "what was trained on scenes can be tested here"


OBJECT = "<object><name>cell</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
SIDES = "<size><width>40</width><height>30</height></size>"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ((SIDES, ""), "one.xml: <size> must hold <width> and <height>"),
        (("40</width>", "wide</width>"), "one.xml: <size> must hold <width> and <height>"),
        (("<name>cell</name>", ""), "one.xml, object 2: it has no <name>"),
        (("<xmin>1</xmin>", ""), "one.xml, object 2: its <bndbox> must hold the numbers <xmin>"),
        (("<ymax>9<", "<ymax>l<"), "one.xml, object 2: its <bndbox> must hold the numbers <xmin>"),
        (("<xmax>9<", "<xmax>nan<"), "one.xml, object 2: box x 0 to nan, y 0 to 9 is not finite"),
        (("<xmax>9<", "<xmax>1<"), "one.xml, object 2: box x 1 to 1, y 1 to 9 has no area"),
        (("<ymax>9<", "<ymax>90<"), "one.xml, object 2: box x 0 to 9, y 0 to 90 reaches outside"),
    ],
)
def test_bad_voc_files_are_named(tmp_path, change, message):
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "ImageSets/Main/train.txt").write_text("one\n")
    Image.new("RGB", (40, 30)).save(tmp_path / "JPEGImages/one.jpg")
    file = tmp_path / "Annotations/one.xml"
    file.write_text(f"<annotation>{SIDES}{OBJECT}{OBJECT}</annotation>")
    assert load_boxes(DataSpec(name=str(tmp_path))).record(0).boxes.tolist() == [[0, 0, 9, 9]] * 2
    sides, second = (text.replace(*change) for text in (SIDES, OBJECT))
    file.write_text(f"<annotation>{sides}{OBJECT}{second}</annotation>")
    with pytest.raises(InputError, match=message):
        load_boxes(DataSpec(name=str(tmp_path)))


@pytest.mark.parametrize("policy", ["fail", "skip"])
def test_an_empty_voc_list_is_named(tmp_path, policy):
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (tmp_path / folder).mkdir(parents=True)
    for side, stems in (("train", "one\n"), ("val", "\n")):
        (tmp_path / f"ImageSets/Main/{side}.txt").write_text(stems)
    Image.new("RGB", (40, 30)).save(tmp_path / "JPEGImages/one.jpg")
    (tmp_path / "Annotations/one.xml").write_text(f"<annotation>{SIDES}{OBJECT}</annotation>")
    assert len(load_boxes(DataSpec(name=str(tmp_path), bad_images=policy), "train")) == 1
    with pytest.raises(InputError, match=r"Main/val\.txt names no images; write the name"):
        load_boxes(DataSpec(name=str(tmp_path), bad_images=policy), "test")


def test_a_set_without_images_of_its_kind_is_refused(tmp_path):
    (tmp_path / "annotations").mkdir()
    write_coco(tmp_path, [GOOD]).rename(tmp_path / "annotations" / "instances_train.json")
    text = (tmp_path / "annotations" / "instances_train.json").read_text()
    (tmp_path / "annotations" / "instances_train.json").write_text(text.replace("one.png", "one.jpg"))
    with pytest.raises(InputError, match="nuclei-gray: no usable image in the train split"):
        load_boxes(DataSpec(name="nuclei-gray", root=str(tmp_path)))


def test_a_damaged_image_is_named_or_left_out(tmp_path):
    file = write_coco(tmp_path, [GOOD])
    image = tmp_path / "one.png"
    image.write_bytes(image.read_bytes()[:-200])
    with pytest.raises(InputError, match=r'one\.png: .*; replace or remove it, or set bad_images to "skip"'):
        load_boxes(DataSpec(name=str(file))).image(0)
    with pytest.raises(InputError, match=r"no usable image in the train split; first problem: .*one\.png"):
        load_boxes(DataSpec(name=str(file), bad_images="skip"))


def test_images_that_are_missing_or_of_another_size_are_named(tmp_path):
    file = write_coco(tmp_path, [GOOD])
    Image.new("RGB", (41, 30)).save(tmp_path / "one.png")
    with pytest.raises(InputError, match=r"one.png is 41x30, its annotations say 40x30"):
        load_boxes(DataSpec(name=str(file))).image(0)
    with pytest.raises(InputError, match="no usable image"):
        load_boxes(DataSpec(name=str(file), bad_images="skip"))
    (tmp_path / "one.png").unlink()
    with pytest.raises(InputError, match=r"one.png: no such image"):
        load_boxes(DataSpec(name=str(file)))


def test_crowds_and_images_without_objects_give_empty_targets(tmp_path):
    file = write_coco(tmp_path, [GOOD | {"iscrowd": 1}])
    found = load_boxes(DataSpec(name=str(file)))
    target = found.target(0, fitted(SIZE, (64, 64)), (64, 64), with_masks=True)
    assert target.boxes.shape == (0, 4)
    assert target.masks.shape == (0, 64, 64)
    empty = load_boxes(DataSpec(name=str(write_coco(tmp_path, []))))
    assert not empty.has_masks
    assert empty.target(0, fitted(SIZE, (64, 64)), (64, 64), with_masks=False).boxes.shape == (0, 4)


def test_mirroring_twice_is_the_identity_and_once_keeps_masks_in_their_boxes():
    data = load_boxes(DataSpec(name="scenes"), "train", (48, 65))
    record = data.record(3)
    whole = fitted((48, 65), (48, 65))
    mirrored = whole._replace(mirrored=True)
    image = np.asarray(data.image(3))
    once = mirrored.pixels(data.image(3), "bicubic")
    assert (once != image).any()
    assert (mirrored.pixels(Image.fromarray(once.copy()), "bicubic") == image).all()
    assert (mirror_boxes(mirrored.boxes(record.boxes), 65) == record.boxes).all()
    pixels = masks.decode(record.masks, (48, 65))
    assert (mirrored.masks(mirrored.masks(pixels)) == pixels).all()
    target = data.target(3, mirrored, (48, 65), with_masks=True)
    for box, mask in zip(target.boxes.tolist(), target.masks.numpy(), strict=True):
        assert masks.tight_box(masks.encode(mask)) == tuple(box)
    assert np.allclose(mirrored.back(target.boxes.numpy()), record.boxes)


@pytest.mark.parametrize("place", range(6))
def test_jittered_views_keep_boxes_around_their_masks(place):
    data = load_boxes(DataSpec(name="scenes"), "train", (60, 90))
    view = jittered((60, 90), (64, 64), (0.3, 2.5), 0.5, seed=5, place=place)
    assert view == jittered((60, 90), (64, 64), (0.3, 2.5), 0.5, seed=5, place=place)
    assert view.shown[0] <= 64
    assert view.shown[1] <= 64
    assert view.pixels(data.image(place), "bilinear").shape == (*view.shown, 3)
    target = data.target(place, view, (64, 64), with_masks=True)
    assert not target.masks[:, view.shown[0] :].any()
    assert not target.masks[:, :, view.shown[1] :].any()
    slack = 1 + max(view.scaled[0] / 60, view.scaled[1] / 90)
    for box, mask in zip(target.boxes.tolist(), target.masks.numpy(), strict=True):
        assert np.abs(np.subtract(masks.tight_box(masks.encode(mask)), box)).max() <= slack


def test_boxes_return_to_the_original_image():
    view = fitted((33, 71), (64, 48))
    assert view.scaled == (22, 48)
    boxes = np.array([[3.0, 4.0, 60.0, 30.0], [0, 0, 71, 33]])
    assert np.allclose(view.back(view.boxes(boxes)), boxes)
    assert fitted((480, 640), (1344, 1344), short_side=800).scaled == (800, 1067)


def test_limits_are_nested(real_data, monkeypatch):
    monkeypatch.setenv("PATCHSCALE_DATA", str(real_data))
    chosen = [
        {data.record(index).name for index in range(len(data))}
        for data in (load_boxes(DataSpec(name="coco-small", limit_train=limit)) for limit in (5, 9))
    ]
    assert [len(names) for names in chosen] == [5, 9]
    assert chosen[0] < chosen[1]
