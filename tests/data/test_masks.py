"""Images with masks: layouts, what values mean, mistakes named in one line, and changes that keep both together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from patchscale.data import DataSpec, Draws
from patchscale.data.masks import IGNORED, Labels, flip, load_masks, resized, scale_crops
from patchscale.data.scenes import SEMANTIC_CLASSES, scene
from patchscale.errors import InputError

PLACES = {
    "lists": lambda side: (f"{side}/{{}}.png", f"{side}annot/{{}}.png"),
    "beside": lambda side: (f"{side}/{{}}.jpg", f"{side}annot/{{}}.png"),
    "images first": lambda side: (f"images/{side}/{{}}.png", f"masks/{side}/{{}}_mask.png"),
    "split first": lambda side: (f"{side}/images/{{}}.png", f"{side}/labels/{{}}.png"),
}


def write_set(root: Path, layout: str = "beside", size: tuple[int, int] = (40, 56), counts=(("train", 4), ("val", 2))):
    """Scenes as files in one of the layouts; returns the masks' paths."""
    written = []
    for side, count in counts:
        image_place, mask_place = PLACES[layout](side)
        lines = []
        for index in range(count):
            drawn = scene(index, size, split="train" if side == "train" else "test")
            image, mask = root / image_place.format(f"s{index}"), root / mask_place.format(f"s{index}")
            for path, pixels in ((image, drawn.image), (mask, drawn.semantic)):
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
            written.append(mask)
            lines.append(f"{image.relative_to(root)} {mask.relative_to(root)}\n")
        if layout == "lists":
            (root / f"{side}.txt").write_text("".join(lines))
    return written


@pytest.mark.parametrize("layout", PLACES)
def test_every_layout_gives_the_same_masks(layout, tmp_path) -> None:
    write_set(tmp_path, layout)
    train = load_masks(DataSpec(name=str(tmp_path)), "train", (20, 28))
    test = load_masks(DataSpec(name=str(tmp_path)), "test", (20, 28))
    assert (len(train), len(test)) == (4, 2)
    assert np.array_equal(train.pairs[3][1], scene(3, (40, 56)).semantic)
    assert np.array_equal(test.pairs[1][1], scene(1, (40, 56), split="test").semantic)
    assert train.classes == tuple(f"class {value}" for value in range(len(train.classes)))


def test_a_damaged_image_is_named_without_advice_that_cannot_help(tmp_path) -> None:
    write_set(tmp_path)
    image = tmp_path / "train" / "s1.jpg"
    load_masks(DataSpec(name=str(tmp_path)), "train", (20, 28))
    image.write_bytes(image.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"s1\.jpg: .*truncated.*; replace or remove it$"):
        load_masks(DataSpec(name=str(tmp_path)), "train", (20, 28))


def test_a_size_is_refused_by_a_folder_for_training(tmp_path) -> None:
    write_set(tmp_path)
    spec = DataSpec(name=str(tmp_path), train_size=3)
    with pytest.raises(InputError, match=r"data\.train_size 3 means nothing for "):
        load_masks(spec, "train", (20, 28))
    assert len(load_masks(spec, "test", (20, 28))) == 2, "what was trained on scenes can be tested here"


def test_a_folder_without_splits_holds_out_a_share(tmp_path) -> None:
    write_set(tmp_path, "images first", counts=(("", 10),))
    with pytest.raises(InputError, match=r"has no train split; set data.test_fraction"):
        load_masks(DataSpec(name=str(tmp_path)), "train", (20, 28))
    spec = DataSpec(name=str(tmp_path), test_fraction=0.3)
    sides = [load_masks(spec, side, (20, 28)) for side in ("train", "test")]
    assert [len(side) for side in sides] == [7, 3]
    held = [{pair[1].tobytes() for pair in side.pairs} for side in sides]
    assert not held[0] & held[1]


def test_limits_are_nested(tmp_path) -> None:
    write_set(tmp_path, counts=(("train", 12), ("val", 2)))
    chosen = [
        {pair[1].tobytes() for pair in load_masks(DataSpec(name=str(tmp_path), limit_train=n), "train", (20, 28)).pairs}
        for n in (3, 7)
    ]
    assert [len(held) for held in chosen] == [3, 7]
    assert chosen[0] < chosen[1]


def test_read_from_disk_and_held_in_memory_are_equal(tmp_path) -> None:
    write_set(tmp_path)
    sets = [load_masks(DataSpec(name=str(tmp_path), memory_gib=gib), "train", (20, 28)) for gib in (4.0, 0.0)]
    assert [one.in_memory for one in sets] == [True, False]
    for held, read in zip(sets[0].pairs, sets[1].pairs, strict=True):
        assert np.array_equal(held[0], read[0])
        assert np.array_equal(held[1], read[1])


def test_the_test_split_does_without_the_training_split(tmp_path) -> None:
    write_set(tmp_path, counts=(("val", 2),))
    with pytest.raises(InputError, match="holds no image and mask pairs for split train"):
        load_masks(DataSpec(name=str(tmp_path)), "test", (20, 28))
    (tmp_path / "classes.txt").write_text("\n".join(SEMANTIC_CLASSES))
    assert len(load_masks(DataSpec(name=str(tmp_path)), "test", (20, 28))) == 2


def test_an_image_too_slender_for_the_canvas_is_named(tmp_path) -> None:
    write_set(tmp_path, size=(8, 200))
    with pytest.raises(InputError, match=r"image .*s0.jpg is 8x200 .* more than 16 times as slender as the input size"):
        load_masks(DataSpec(name=str(tmp_path)), "train", (28, 20))


def test_zero_rule_and_ignored_label(tmp_path) -> None:
    path = tmp_path / "mask.png"
    Image.fromarray(np.array([[0, 1, 2], [2, 150, 255]], dtype=np.uint8)).save(path)
    ade = Labels(tuple(f"class {n}" for n in range(1, 151)), 255, zero_ignored=True)
    assert ade.read(path).tolist() == [[IGNORED, 0, 1], [1, 149, IGNORED]]
    plain = Labels(tuple("abc"), 150)
    with pytest.raises(InputError, match=r"mask .*mask.png holds the value 255; this set has classes 0 to 2 and 150"):
        plain.read(path)


def test_palette_indices_count_and_colours_are_refused(tmp_path) -> None:
    labels = np.array([[0, 3], [1, 2]], dtype=np.uint8)
    image = Image.fromarray(labels)
    image.putpalette(np.arange(768, dtype=np.uint8).tobytes())
    image.save(tmp_path / "palette.png")
    assert Labels(tuple("abcd"), 255).read(tmp_path / "palette.png").tolist() == labels.tolist()
    image.convert("RGB").save(tmp_path / "colour.png")
    with pytest.raises(InputError, match=r"mask .*colour.png has mode RGB, not one value a pixel"):
        Labels(tuple("abcd"), 255).read(tmp_path / "colour.png")


def test_a_label_outside_the_range_names_file_and_value(tmp_path) -> None:
    masks = write_set(tmp_path)
    (tmp_path / "classes.txt").write_text("\n".join(SEMANTIC_CLASSES))
    assert load_masks(DataSpec(name=str(tmp_path)), "train", (20, 28)).classes == SEMANTIC_CLASSES
    wrong = np.asarray(Image.open(masks[2])).copy()
    wrong[5, 6] = 77
    Image.fromarray(wrong).save(masks[2])
    with pytest.raises(InputError, match=rf"mask {masks[2]} holds the value 77; this set has classes 0 to 6 and 255"):
        load_masks(DataSpec(name=str(tmp_path)), "train", (20, 28))


def test_a_test_mask_with_a_class_that_training_never_shows_is_named(tmp_path) -> None:
    masks = write_set(tmp_path)
    wrong = np.asarray(Image.open(masks[-1])).copy()
    wrong[0, 0] = 200
    Image.fromarray(wrong).save(masks[-1])
    with pytest.raises(InputError, match=rf"mask {masks[-1]} holds the value 200"):
        load_masks(DataSpec(name=str(tmp_path)), "test", (20, 28))


def test_masks_that_do_not_match_are_named(tmp_path) -> None:
    masks = write_set(tmp_path)
    Image.open(masks[1]).resize((56, 39), Image.Resampling.NEAREST).save(masks[1])
    with pytest.raises(InputError, match=rf"mask {masks[1]} is 39x56, its image .*s1.jpg is 40x56"):
        load_masks(DataSpec(name=str(tmp_path)), "train", (20, 28))
    masks[1].unlink()
    with pytest.raises(InputError, match=r"image .*s1.jpg has no mask"):
        load_masks(DataSpec(name=str(tmp_path)), "train", (20, 28))


def test_an_unreadable_mask_and_a_wrong_list_are_named(tmp_path) -> None:
    masks = write_set(tmp_path, "lists")
    masks[0].write_bytes(masks[0].read_bytes()[:60])
    with pytest.raises(InputError, match=rf"cannot read the mask {masks[0]}"):
        load_masks(DataSpec(name=str(tmp_path)), "train", (20, 28))
    masks[0].unlink()
    with pytest.raises(InputError, match=r"train.txt line 1: no mask at"):
        load_masks(DataSpec(name=str(tmp_path)), "train", (20, 28))
    (tmp_path / "train.txt").write_text("only-one\n")
    with pytest.raises(InputError, match=r"train.txt line 1 is 'only-one'; write an image path and a mask path"):
        load_masks(DataSpec(name=str(tmp_path)), "train", (20, 28))


def test_unknown_names_list_what_there_is() -> None:
    with pytest.raises(InputError, match="no images with masks by the name 'cityscape'; use camvid, ade20k, scenes"):
        load_masks(DataSpec(name="cityscape"), "train", (20, 28))


def test_camvid_as_it_lies(real_data) -> None:
    train = load_masks(DataSpec(name=str(real_data / "camvid"), ignore_label=11, limit_train=3), "train", (192, 256))
    assert len(train) == 3
    assert len(train.classes) == 11
    image, mask = train.test_view(0, original=False)
    assert image.shape == (192, 256, 3)
    assert mask.shape == (192, 256)
    assert train.test_view(0, original=True)[1].shape == (360, 480)
    assert set(np.unique(mask)) <= {*range(11), IGNORED}


def test_an_ade20k_folder_is_read_by_its_own_rule(tmp_path) -> None:
    root = tmp_path / "ADEChallengeData2016"
    for side, count in (("training", 3), ("validation", 1)):
        for index in range(count):
            for kind, ending in (("images", "jpg"), ("annotations", "png")):
                path = root / kind / side / f"ADE_{index}.{ending}"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.full((8, 9) + ((3,) if kind == "images" else ()), 50 * index, dtype=np.uint8)
                Image.fromarray(pixels).save(path)
    with pytest.raises(InputError, match=r"ade20k has 20,210 images in its train split, .* holds 3"):
        load_masks(DataSpec(name="ade20k", root=str(root)), "train", (8, 8))


def joint_crops(pairs, rows=slice(None), seed=3, **changes):
    draws = Draws(torch.Generator().manual_seed(seed), len(pairs), rows)
    arguments = {"scale": (0.5, 2.0), "most_of_one_class": 1.0, "resample": "bilinear", "fill": (9, 9, 9)} | changes
    return scale_crops(pairs[rows], (24, 32), draws, **arguments)


def painted(index: int, size=(48, 64)):
    """A pair whose image says in each colour what its mask says, in large areas."""
    mask = np.asarray(Image.fromarray(scene(index, (12, 16)).semantic).resize(size[::-1], Image.Resampling.NEAREST))
    return np.repeat((mask * 30 + 20)[..., None], 3, axis=2).astype(np.uint8), mask


def test_crops_keep_image_and_mask_together() -> None:
    pairs = [painted(index) for index in range(12)]
    images, masks = joint_crops(pairs)
    assert images.shape == (12, 3, 24, 32)
    assert masks.shape == (12, 24, 32)
    counted = masks != IGNORED
    assert torch.equal(images[:, 0][~counted], torch.full_like(images[:, 0][~counted], 9))
    agree = (images[:, 0].int() - (masks.int() * 30 + 20)).abs()[counted] <= 15
    assert agree.float().mean() > 0.9, "away from edges, the image must still say what the mask says"
    assert 0.05 < (~counted).float().mean() < 0.6, "scales below 1 leave a part of the canvas"


def test_crops_do_not_depend_on_how_a_batch_is_divided() -> None:
    pairs = [painted(index) for index in range(6)]
    whole = joint_crops(pairs, most_of_one_class=0.6)
    parts = [joint_crops(pairs, rows, most_of_one_class=0.6) for rows in (slice(0, 1), slice(1, 4), slice(4, 6))]
    for position in (0, 1):
        assert torch.equal(whole[position], torch.cat([part[position] for part in parts]))
    assert not torch.equal(whole[0], joint_crops(pairs, seed=4)[0])


def test_crops_avoid_a_single_class() -> None:
    mask = np.zeros((48, 64), dtype=np.uint8)
    mask[:, 48:] = 1
    pair = (np.zeros((48, 64, 3), dtype=np.uint8), mask)
    shares = []
    for most in (1.0, 0.75):
        _, masks = joint_crops([pair] * 40, scale=(2.0, 2.0), most_of_one_class=most)
        largest = torch.stack([(masks == value).flatten(1).float().mean(1) for value in (0, 1)]).amax(0)
        shares.append((largest > 0.75).float().mean().item())
    assert shares[0] > 0.3
    assert shares[1] < shares[0] / 3


def test_at_its_own_size_a_crop_is_the_pair() -> None:
    pair = painted(1, (24, 32))
    images, masks = joint_crops([pair], scale=(1.0, 1.0))
    assert np.array_equal(images[0].permute(1, 2, 0).numpy(), pair[0])
    assert np.array_equal(masks[0].numpy(), pair[1])


def test_an_all_ignored_pair_can_be_cropped() -> None:
    pair = (np.zeros((20, 30, 3), dtype=np.uint8), np.full((20, 30), IGNORED, dtype=np.uint8))
    assert (joint_crops([pair], most_of_one_class=0.5)[1] == IGNORED).all()


def test_flip_once_keeps_both_together_and_twice_is_the_identity() -> None:
    pairs = [painted(index, (24, 32)) for index in range(3)]
    images, masks = joint_crops(pairs, scale=(1.0, 1.0))
    chosen = torch.tensor([True, False, True])
    once = flip(images, masks, chosen)
    assert torch.equal(once[0][0], images[0].flip(-1))
    assert torch.equal(once[1][0], masks[0].flip(-1))
    assert torch.equal(once[0][1], images[1])
    assert torch.equal(once[0][:, 0].int(), once[1].int() * 30 + 20)
    for again, first in zip(flip(*once, chosen), (images, masks), strict=True):
        assert torch.equal(again, first)


def test_resizing_mixes_no_classes() -> None:
    pair = painted(2)
    image, mask = resized(pair, (31, 45), "bicubic")
    assert image.shape == (31, 45, 3)
    assert set(np.unique(mask)) <= set(np.unique(pair[1]))
