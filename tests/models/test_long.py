"""Images encoded band by band."""

from __future__ import annotations

import pytest
import torch

from patchscale.data import normalise
from patchscale.errors import InputError
from patchscale.models import create
from patchscale.models.long import encode_long
from patchscale.tokens.reducers import build_reducer

MEAN, STD = (0.5, 0.4, 0.6), (0.2, 0.3, 0.25)


def build(name="deit_pico_patch16", **options):
    torch.manual_seed(0)
    arguments = {"input_size": (48, 32), "patch_size": 8, "num_classes": 0, "positions": "sincos", **options}
    return create(name, **arguments).eval()


def bands(image, *heights):
    return image.split(list(heights), dim=1)


@pytest.mark.parametrize("name", ["deit_pico_patch16", "adventurer_pico_patch16"])
def test_all_tokens_of_all_bands_are_the_whole_image(name):
    model = build(name)
    image = torch.randint(0, 256, (3, 48, 32), dtype=torch.uint8)
    qr = build_reducer("qr", dim=192, slots=8)
    found = encode_long(model, bands(image, 16, 8, 24), qr, keep=100, mean=MEAN, std=STD)
    assert found.grid == (6, 4)
    assert found.kept.tolist() == list(range(24))
    with torch.no_grad():
        expected = model.forward_features(normalise(image[None], MEAN, STD))[0]
    torch.testing.assert_close(found.features, expected, rtol=1e-4, atol=1e-5)


def test_empty_paper_is_dropped_and_ink_is_kept():
    image = torch.full((3, 64, 32), 255, dtype=torch.uint8)
    image[:, 24:40, 8:24] = torch.randint(0, 200, (3, 16, 16), dtype=torch.uint8)
    qr = build_reducer("qr", dim=192, slots=8, tolerance=0.01)
    found = encode_long(build(), bands(image, 32, 32), qr, keep=8, mean=MEAN, std=STD)
    ink = {row * 4 + col for row in (3, 4) for col in (1, 2)}
    assert set(found.kept.tolist()) == ink
    assert found.features.shape == (1 + 4, 64)


def test_what_does_not_fit_is_named():
    image = torch.randint(0, 256, (3, 48, 32), dtype=torch.uint8)
    qr = build_reducer("qr", dim=192, slots=8)
    with pytest.raises(InputError, match="build the model with positions sincos"):
        encode_long(build(positions="learned"), [image], qr, 8, mean=MEAN, std=STD)
    with pytest.raises(InputError, match="a band is 16 pixels wide, those above it 32"):
        encode_long(build(), [image, image[:, :, :16]], qr, 8, mean=MEAN, std=STD)
    with pytest.raises(InputError, match="Filtering makes rows that are no tokens"):
        encode_long(build(), [image], build_reducer("filtering", dim=192, slots=8), 8, mean=MEAN, std=STD)
    with pytest.raises(InputError, match="there are no bands"):
        encode_long(build(), [], qr, 8, mean=MEAN, std=STD)
