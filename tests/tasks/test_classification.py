"""Classification needs labels that mean the same in both splits."""

from __future__ import annotations

import json

import numpy as np
import pytest

from patchscale.data import DataSpec
from patchscale.errors import InputError
from patchscale.tasks import ModelSpec, Regularisation, build_task
from tests.data.test_idx import write_idx


@pytest.fixture
def numbered(tmp_path, monkeypatch):
    """Writes idx files of 8x8 images whose largest label is given for each split; their classes are numbers."""
    monkeypatch.setenv("PATCHSCALE_CACHE", str(tmp_path / "cache"))

    def write(train: int, test: int) -> DataSpec:
        for prefix, last in (("train", train), ("t10k", test)):
            labels = np.arange(12, dtype=np.uint8) % (last + 1)
            write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte", labels)
            write_idx(tmp_path / f"{prefix}-images-idx3-ubyte", np.zeros((12, 8, 8), dtype=np.uint8))
        return DataSpec(name=str(tmp_path))

    return write


def build(data: DataSpec):
    spec = ModelSpec(name="deit_pico_patch16", patch_size=4, input_size=(8, 8))
    return build_task("classification", spec, data, {}, Regularisation())


def test_a_class_of_the_test_images_that_training_lacks_is_named(numbered):
    with pytest.raises(InputError, match=r"label 2 is the class '2' in the test images and no class in the training"):
        build(numbered(1, 2))


def test_the_last_of_numbered_classes_may_lack_in_the_test_images(numbered):
    assert build(numbered(2, 1)).classes == ("0", "1", "2")


def test_names_in_another_order_are_refused(tmp_path, monkeypatch):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    monkeypatch.setenv("PATCHSCALE_CACHE", str(tmp_path / "cache"))
    for side, names in (("train", ["cat", "dog"]), ("test", ["dog", "cat"])):
        note = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        rows = {"image": [{"bytes": b"", "path": "x"}] * 2, "label": [0, 1]}
        table = pa.table(rows).replace_schema_metadata({"huggingface": json.dumps(note)})
        pq.write_table(table, tmp_path / f"{side}-0.parquet")
    with pytest.raises(InputError, match="label 0 is the class 'dog' in the test images and 'cat' in the training"):
        build(DataSpec(name=str(tmp_path), memory_gib=0.0))
