"""Augmentation against plain references, one image at a time."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from torchvision.transforms import functional as TF

from patchscale.data import Augment, DataSpec, Draws, load, normalise
from patchscale.data import transforms as T


def draws(batch: int, seed: int = 0, rows: slice = slice(None)) -> Draws:
    return Draws(torch.Generator().manual_seed(seed), batch, rows)


@pytest.fixture(scope="module")
def photos() -> torch.Tensor:
    """uint8 [16, 3, 24, 20]: scenes stand in for photographs, with colour at every scale."""
    from patchscale.data.scenes import scene

    return torch.stack([torch.from_numpy(scene(index, (24, 20)).image).permute(2, 0, 1) for index in range(16)])


ALL = Augment(
    crop_padding=3, horizontal_flip=0.5, rand_augment="rand-m9-mstd0.5-inc1", three_augment=True, color_jitter=0.3,
    random_erasing=0.5,
)  # fmt: skip


def test_equal_generators_give_equal_batches_and_the_input_stays(photos):
    before = photos.clone()
    first, second = ALL(photos, draws(16, 1)), ALL(photos, draws(16, 1))
    assert torch.equal(first, second)
    assert torch.equal(photos, before)
    assert first.dtype == torch.uint8
    assert first.shape == photos.shape
    assert not torch.equal(first, ALL(photos, draws(16, 2)))


@pytest.mark.parametrize("edges", [(0, 8, 16), (0, 5, 6, 16)])
def test_a_batch_in_parts_is_the_batch(photos, edges):
    parts = [slice(low, high) for low, high in pairwise(edges)]
    whole = ALL(photos, draws(16, 3))
    assert torch.equal(whole, torch.cat([ALL(photos[rows], draws(16, 3, rows)) for rows in parts]))


def test_no_step_is_the_identity(photos):
    assert torch.equal(Augment()(photos, draws(16)), photos)


def test_a_mistyped_field_is_an_error():
    with pytest.raises(ValidationError, match="horizontal_flipp"):
        Augment.model_validate({"horizontal_flipp": 0.5})
    with pytest.raises(ValidationError, match="crop_scale"):
        Augment(crop_scale=(0.5, 0.2))


def test_random_crop_is_a_window_of_the_reflected_image(photos):
    out = T.random_crop(photos, 3, draws(16))
    padded = TF.pad(photos, [3, 3, 3, 3], padding_mode="reflect")
    places = set()
    for image, wide in zip(out, padded, strict=True):
        found = [(r, c) for r in range(7) for c in range(7) if torch.equal(image, wide[:, r : r + 24, c : c + 20])]
        assert found
        places.add(found[0])
    assert len(places) > 4


def test_flip_mirrors_about_the_wanted_share(photos):
    many = photos.repeat(20, 1, 1, 1)
    out = T.random_flip(many, 0.25, draws(len(many)))
    mirrored = (out == many.flip(-1)).flatten(1).all(1)
    assert (mirrored | (out == many).flatten(1).all(1)).all()
    assert 0.15 < mirrored.float().mean() < 0.35


def test_three_augment_is_grey_or_solarised_or_blurred_a_third_each(photos):
    many = photos.repeat(12, 1, 1, 1)
    out = T.three_augment(many, (0.5, 2.0), draws(len(many)))
    grey = TF.rgb_to_grayscale(many.float(), num_output_channels=3).round()
    is_grey = ((out.float() - grey).abs() <= 1).flatten(1).all(1)
    is_solar = (out == TF.solarize(many, 128)).flatten(1).all(1)
    for share in (is_grey, is_solar, ~is_grey & ~is_solar):
        assert 0.2 < share.float().mean() < 0.47
    blurred = out[~is_grey & ~is_solar].float()
    assert blurred.diff(dim=3).abs().mean() < 0.8 * many.float().diff(dim=3).abs().mean()


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
def test_blur_is_the_gaussian(photos, sigma):
    from scipy.ndimage import gaussian_filter

    out = T.gaussian_blur(photos, torch.full((16,), sigma), 2.0)
    for image, expected in zip(out.numpy(), photos.numpy().astype(float), strict=True):
        reference = np.stack([gaussian_filter(plane, sigma, mode="nearest", radius=6) for plane in expected])
        np.testing.assert_allclose(image, reference, atol=0.51)


def test_each_jitter_is_pillows_enhancement_in_some_order(photos):
    from itertools import permutations

    from PIL import ImageEnhance

    kinds = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    out = T.color_jitter(photos, 0.3, draws(16, 4))
    factors = draws(16, 4).uniform(0.7, 1.3, 3)
    for number, (image, changed) in enumerate(zip(photos, out, strict=True)):
        distances = []
        for order in permutations(range(3)):
            picture = Image.fromarray(image.permute(1, 2, 0).numpy())
            for kind in order:
                picture = kinds[kind](picture).enhance(float(factors[kind, number]))
            distances.append(np.abs(np.asarray(picture).transpose(2, 0, 1).astype(int) - changed.numpy()).max())
        assert min(distances) <= 3


def test_erasing_changes_one_rectangle_of_the_right_area(photos):
    flat = torch.zeros(200, 3, 24, 20, dtype=torch.uint8)
    out = T.random_erasing(flat, 0.5, draws(200))
    touched = (out != 0).any(dim=1)
    areas = []
    for mask in touched:
        if mask.any():
            rows, columns = torch.nonzero(mask, as_tuple=True)
            box = (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
            areas.append(float(box) / 480)
    assert 0.38 < len(areas) / 200 < 0.62
    assert 0.01 < min(areas) < 0.1
    assert 0.25 < max(areas) < 0.4


def test_normalise_gives_mean_zero_and_deviation_one():
    images = load(DataSpec(name="digits_in_clutter", train_size=512), "train", (32, 32))
    batch = normalise(images.read(range(512)), images.mean, images.std)
    assert batch.dtype == torch.float32
    assert abs(float(batch.mean())) < 0.1
    assert abs(float(batch.std()) - 1) < 0.1
    exact = TF.normalize(images.read([0])[0].float() / 255, list(images.mean), list(images.std))
    torch.testing.assert_close(batch[0], exact, atol=1e-5, rtol=1e-5)


def test_padding_wider_than_the_image_is_refused(photos):
    with pytest.raises(ValueError, match="crop_padding 20"):
        T.random_crop(photos, 20, draws(16))
