"""RandAugment is timm's, image for image, whoever else draws random numbers meanwhile."""

from __future__ import annotations

import copy
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from patchscale.data import Augment
from patchscale.data.rand_augment import policy, rand_augment
from patchscale.data.scenes import scene

TEXT = "rand-m9-mstd0.5-inc1"
MEAN = (0.485, 0.456, 0.406)


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    """uint8 [24, 3, 24, 20]."""
    return torch.stack([torch.from_numpy(scene(index, (24, 20)).image).permute(2, 0, 1) for index in range(24)])


def test_each_image_is_what_timm_makes_of_it_from_the_same_seed(photos):
    seeds = torch.arange(24) + 2**40
    out = rand_augment(photos, TEXT, MEAN, seeds)
    timm_s = policy(TEXT, 20, (124, 116, 104))
    for image, seed, changed in zip(photos, seeds.tolist(), out, strict=True):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        expected = timm_s(Image.fromarray(image.permute(1, 2, 0).numpy()))
        assert np.array_equal(np.asarray(expected), changed.permute(1, 2, 0).numpy())
    changed = (out != photos).flatten(1).any(1).float().mean()
    assert 0.5 < changed < 1


def test_the_global_generators_are_left_alone(photos):
    random.seed(3)
    np.random.seed(3)
    expected = random.random(), np.random.random()
    random.seed(3)
    np.random.seed(3)
    rand_augment(photos, TEXT, MEAN, torch.arange(24))
    assert (random.random(), np.random.random()) == expected


def test_threads_do_not_disturb_each_other(photos):
    seeds = torch.arange(24)
    alone = rand_augment(photos, TEXT, MEAN, seeds)
    with ThreadPoolExecutor(4) as pool:
        for together in pool.map(lambda _: rand_augment(photos, TEXT, MEAN, seeds), range(8)):
            assert torch.equal(together, alone)


def test_posterising_to_no_bits_is_black(photos):
    posterise = copy.copy(next(o for o in policy(TEXT, 20, (0, 0, 0)).ops if o.name == "PosterizeIncreasing"))
    posterise.prob, posterise.magnitude, posterise.magnitude_std = 1.0, 10, 0
    picture = Image.fromarray(photos[0].permute(1, 2, 0).numpy())
    assert not np.asarray(posterise(picture)).any()


@pytest.mark.parametrize("text", ["rand-x9", "auto", "rand-m9.5.5"])
def test_what_timm_does_not_know_is_refused(text):
    with pytest.raises(ValidationError, match="is not timm's RandAugment"):
        Augment(rand_augment=text)
