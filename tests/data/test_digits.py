"""The embedded sets: real digits, plain and in clutter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from patchscale.data import DataSpec, load
from patchscale.data.digits import source_digits
from patchscale.errors import InputError

SMALL = DataSpec(train_size=64, test_size=32)


def test_plain_digits_are_scikit_learns_at_their_own_size():
    from sklearn.datasets import load_digits

    values, targets = load_digits(return_X_y=True)
    train, test = (load(DataSpec(name="digits"), split, (8, 8)) for split in ("train", "test"))
    assert (len(train), len(test)) == (1437, 360)
    assert torch.cat([train.labels, test.labels]).tolist() == list(targets)
    pixels = torch.cat([train.read(range(1437)), test.read(range(360))])
    assert pixels.shape == (1797, 3, 8, 8)
    assert pixels.dtype == torch.uint8
    np.testing.assert_allclose(pixels[:, 0].numpy() / 255 * 16, np.asarray(values).reshape(-1, 8, 8), atol=0.04)
    assert torch.equal(pixels[:, 0], pixels[:, 2])


def test_train_and_test_digits_are_disjoint():
    train, test = source_digits("train")[0], source_digits("test")[0]
    assert not {image.tobytes() for image in train} & {image.tobytes() for image in test}


@pytest.mark.parametrize("size", [(32, 32), (48, 48), (24, 40)])
def test_an_image_depends_only_on_seed_split_index_and_canvas(size):
    few, many = load(SMALL, "train", size), load(DataSpec(train_size=600), "train", size)
    assert many.read([3]).shape == (1, 3, *size)
    assert torch.equal(few.read(range(64)), many.read(range(64)))
    assert torch.equal(few.labels, many.labels[:64])
    assert torch.equal(
        load(SMALL.model_copy(update={"limit_train": 10}), "train", size).read(range(10)), few.read(range(10))
    )


def test_seed_split_and_canvas_all_matter():
    images = [
        load(SMALL, "train", (32, 32)).read([0]),
        load(SMALL, "test", (32, 32)).read([0]),
        load(SMALL.model_copy(update={"data_seed": 1}), "train", (32, 32)).read([0]),
    ]
    assert not any(torch.equal(images[a], images[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_generated_pixels_are_the_same_on_every_machine():
    import hashlib

    images = load(SMALL, "train", (32, 32))
    assert hashlib.sha256(images.read(range(64)).numpy().tobytes()).hexdigest()[:16] == "80ee10ea113379f9"


def test_the_labelled_digit_is_whole_somewhere_in_the_image():
    clean = load(SMALL.model_copy(update={"clutter": 0.0}), "train", (40, 40))
    cluttered = load(SMALL.model_copy(update={"clutter": 2.0}), "train", (40, 40))
    assert torch.equal(clean.labels, cluttered.labels)
    assert (cluttered.read(range(64)) >= clean.read(range(64))).all()
    rows = clean.read(range(64))[:, 0].amax(dim=2) > 0
    first, last = rows.int().argmax(1), 39 - rows.flip(1).int().argmax(1)
    assert (last - first < 20).all()
    assert first.unique().numel() > 10, "places must vary"


def test_all_ten_digits_occur_about_equally_often():
    counts = load(DataSpec(train_size=4000), "train", (16, 16)).labels.bincount(minlength=10)
    assert counts.min() > 300


def test_a_canvas_smaller_than_a_digit_is_refused():
    with pytest.raises(InputError, match="digit of 16 pixels does not fit on a canvas of 32x12"):
        load(DataSpec(digit_size=16), "train", (32, 12))
