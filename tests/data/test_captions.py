"""Sets of files with captions: what is asked of them that they cannot do."""

from __future__ import annotations

import json

import numpy as np
import pytest

from patchscale.data import DataSpec
from patchscale.data.captions import load_captions
from patchscale.errors import InputError

from .conftest import encode


@pytest.fixture
def captioned(tmp_path):
    """Two images of noise with an answer each, in both splits."""
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(encode(np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)))
    lines = [json.dumps({"image": name, "question": "what", "answer": "noise"}) for name in ("a.png", "b.png")]
    for side in ("train", "val"):
        (tmp_path / f"{side}.jsonl").write_text("\n".join(lines))
    return tmp_path


@pytest.mark.parametrize("options", [{"bad_images": "skip"}, {"test_crop": 0.875}])
def test_what_captions_do_not_honour_is_refused(captioned, options):
    for name in (str(captioned), "scenes", "glyphs"):
        with pytest.raises(InputError, match="bad_images and test_crop are not for captions; leave them out"):
            load_captions(DataSpec(name=name, **options), "train", (8, 8))


def test_a_damaged_image_is_named_without_advice_that_cannot_help(captioned):
    (captioned / "b.png").write_bytes(b"no picture")
    images = load_captions(DataSpec(name=str(captioned)), "train", (8, 8))
    with pytest.raises(InputError, match=r"b\.png: not an image that Pillow knows; replace or remove it$"):
        images.read([0, 1])


def test_a_size_is_refused_for_training(captioned):
    spec = DataSpec(name=str(captioned), test_size=1)
    with pytest.raises(InputError, match=r"data\.test_size 1 means nothing for "):
        load_captions(spec, "train", (8, 8))
    assert len(load_captions(spec, "test", (8, 8))) == 2, "what was trained on scenes can be tested here"
