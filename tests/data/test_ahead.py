"""Reading ahead gives what reading gives."""

from __future__ import annotations

import itertools

import pytest
import torch

from patchscale.data import Crop, DataSpec, EpochSampler, load, read_ahead
from patchscale.errors import InputError


@pytest.mark.parametrize("depth", [0, 1, 3, 20])
def test_batches_come_in_order_and_equal_direct_reads(class_folders, depth):
    images = load(DataSpec(name=str(class_folders), memory_gib=0.0), "train", (10, 10))
    sampler = EpochSampler(len(images), 0, 5)
    batches = list(read_ahead(images, ((sampler.batch(step), Crop(step)) for step in range(9)), depth=depth))
    assert len(batches) == 9
    for step, (indices, pixels) in enumerate(batches):
        assert torch.equal(indices, sampler.batch(step))
        assert torch.equal(pixels, images.read(sampler.batch(step), Crop(step)))


def test_an_endless_sequence_can_be_left(class_folders):
    images = load(DataSpec(name=str(class_folders)), "train", (8, 8))
    stream = read_ahead(images, (([step % 18], None) for step in itertools.count()))
    assert [indices for indices, _ in itertools.islice(stream, 3)] == [[0], [1], [2]]
    stream.close()


def test_an_unreadable_image_is_raised_at_its_batch(class_folders):
    images = load(DataSpec(name=str(class_folders), memory_gib=0.0), "train", (8, 8))
    (class_folders / "train" / "digit-5" / "0.png").write_bytes(b"not a picture")
    stream = read_ahead(images, (([index], None) for index in range(18)))
    assert len(list(itertools.islice(stream, 6))) == 6
    with pytest.raises(InputError, match=r"digit-5/0\.png"):
        next(stream)
