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


def test_a_size_is_refused_for_training(captioned):
    spec = DataSpec(name=str(captioned), test_size=1)
    with pytest.raises(InputError, match=r"data\.test_size 1 means nothing for "):
        load_captions(spec, "train", (8, 8))
    assert len(load_captions(spec, "test", (8, 8))) == 2, "what was trained on scenes can be tested here"
