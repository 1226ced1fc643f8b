"""Token pictures hold the image's own pixels, patch by patch."""

from __future__ import annotations

import numpy as np
import pytest

from patchscale.report.pictures import SIDE, cut_image, token_pictures
from patchscale.report.run import read


@pytest.mark.parametrize(
    ("size", "patch"), [((48, 48), 8), ((32, 48), 16), ((32, 32), 1), ((224, 224), 1), ((7, 7), 7)]
)
def test_patches_of_the_cut_image_are_the_image(size, patch):
    height, width = size
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    cut, gap = cut_image(pixels, patch)
    scale = max(1, SIDE // max(size))
    step = patch * scale + gap
    for row in range(height // patch):
        for column in range(width // patch):
            cell = cut[row * step : row * step + patch * scale, column * step : column * step + patch * scale]
            expected = pixels[row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
            assert np.array_equal(cell[::scale, ::scale, :3], expected)
            assert (cell[..., 3] == 255).all()
    assert (cut[..., 3] == 255).sum() == height * width * scale**2
    assert (gap > 0) == (patch * scale >= 4)


def test_a_study_gets_one_picture_per_patch_size(run_directory):
    found = token_pictures(read(run_directory))
    assert [picture["tokens"] for picture in found["pictures"]] == [4, 9, 16, 36]
    assert all(picture["source"].startswith("data:image/png;base64,") for picture in found["pictures"])
    assert "first test image of digits_in_clutter" in found["note"]


def test_missing_data_are_told(run_directory):
    run = read(run_directory)
    for config in run.configs.values():
        config["data"]["name"] = "/nowhere/at/all"
    found = token_pictures(run)
    assert found["pictures"] == []
    assert "/nowhere/at/all does not exist" in found["note"]
