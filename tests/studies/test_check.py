"""What a dry run knows of the data of every trial."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from patchscale.errors import InputError
from patchscale.studies import load_study
from patchscale.studies.check import about_data, check
from patchscale.studies.counting import planned

EPOCHS = ["recipe.epochs=10", "recipe.warmup_steps=0", "axes.model=[deit_pico_patch16]", "axes.patch_size=[16]"]
EPOCHS += ["axes.random_seed=[0]", "recipe.batch_size=64"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Two classes of one training and one test image."""
    monkeypatch.setenv("PATCHSCALE_CACHE", str(tmp_path / "cache"))
    for side in ("train", "val"):
        for name in ("cat", "dog"):
            place = tmp_path / "images" / side / name
            place.mkdir(parents=True)
            Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(place / "1.png")
    return tmp_path / "images"


def test_every_trial_is_counted_with_its_own_data(folder):
    study = load_study("quickstart", settings=[*EPOCHS, "axes.data.train_size=[1024,8192]"])
    few, many = planned(study)[0]
    assert many["train_flops"] == 8 * few["train_flops"]
    study = load_study("quickstart", settings=[*EPOCHS, f"axes.data.name=[digits,{folder}]"])
    digits, images = planned(study)[0]
    assert digits["train_flops"] > 100 * images["train_flops"]
    assert images["params"] < digits["params"], "two classes are fewer than ten"


@pytest.mark.parametrize("name", ["digits", "fashion-mnist", "hf:owner/pictures", "folder"])
def test_a_size_of_data_that_have_their_own_is_refused(name, folder):
    settings = [*EPOCHS, f"data.name={folder if name == 'folder' else name}", "data.train_size=100"]
    study = load_study("quickstart", settings=settings)
    for refuse in (planned, check):
        with pytest.raises(InputError, match=r"data\.train_size 100 means nothing for .*use data\.limit_train"):
            refuse(study)


def test_files_in_the_place_of_scenes_are_counted_as_they_are():
    for scale, train in (("tiny", 512), ("small", 367), ("paper", 20_210)):
        assert about_data(load_study("segmentation", scale=scale).trials()[0]).train == train
