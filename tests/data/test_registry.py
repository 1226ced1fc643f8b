"""Names, places, and what is said when something is missing."""

from __future__ import annotations

import sys

import pytest
import torch
from pydantic import ValidationError

from patchscale.data import DataSpec, catalogue, describe, known_sets, load
from patchscale.data.directory import load_directory
from patchscale.data.expectation import Expectation
from patchscale.data.sources import TarSource
from patchscale.errors import InputError


def test_every_known_set_is_described():
    names = [known.name for known in known_sets()]
    assert names[0] == DataSpec().name == "digits_in_clutter"
    assert {"scenes", "fashion-mnist", "cifar-100", "imagenet-1k", "inaturalist-18", "inaturalist-19"} <= set(names)
    assert describe("imagenet-1k").train == 1_281_167
    assert describe("Fashion_MNIST").name == "fashion-mnist"


@pytest.mark.parametrize(
    "known", [known for known in known_sets() if known.kind == "generated"], ids=lambda known: known.name
)
def test_generated_sets_are_what_the_catalogue_says(known):
    spec = DataSpec(name=known.name, limit_train=20, limit_test=10)
    train, test = (load(spec, split, (16, 24)) for split in ("train", "test"))
    assert len(train.classes) == known.classes
    assert train.read([0, 1]).shape == (2, 3, 16, 24)
    assert train.labels.dtype == torch.int64
    assert (len(train), len(test)) == (20, 10)


def test_an_unknown_name_offers_close_ones():
    with pytest.raises(InputError, match=r"unknown data set 'imagnet-1k': did you mean imagenet-1k"):
        load(DataSpec(name="imagnet-1k"))


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "~/nowhere-at-all"])
def test_a_missing_directory_is_named(name):
    with pytest.raises(InputError, match=rf"{name}.*does not exist"):
        load(DataSpec(name=name))
    with pytest.raises(InputError, match=rf"imagenet-1k.*{name}.*does not exist"):
        load(DataSpec(name="imagenet-1k", root=name))


def test_a_set_found_nowhere_says_where_was_looked(tmp_path, monkeypatch):
    monkeypatch.setenv("PATCHSCALE_DATA", str(tmp_path / "sets"))
    with pytest.raises(
        InputError, match=rf"imagenet-1k was not found: looked for imagenet-1k, imagenet.* in {tmp_path}/sets"
    ):
        load(DataSpec(name="imagenet-1k"))


def test_no_download_without_a_connection(monkeypatch, tmp_path):
    monkeypatch.delenv("PATCHSCALE_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"cifar-10 was not found.*PATCHSCALE_OFFLINE"):
        load(DataSpec(name="cifar-10"))


def test_the_given_directory_comes_before_patchscale_data(class_folders, tmp_path, monkeypatch):
    elsewhere = tmp_path / "sets" / "tiny-imagenet-100"
    elsewhere.mkdir(parents=True)
    monkeypatch.setenv("PATCHSCALE_DATA", str(elsewhere.parent))
    with pytest.raises(InputError, match="holds no image set that is known"):
        load(DataSpec(name="tiny-imagenet-100"))
    with pytest.raises(InputError, match=r"holds 18 images of 3 classes"):
        load(DataSpec(name="tiny-imagenet-100", root=str(class_folders)))


def test_imagenet_is_counted(class_folders):
    with pytest.raises(
        InputError, match=r"imagenet-1k has 1,281,167 images of 1,000 classes in its train split, but .* 18 images of 3"
    ):
        load(DataSpec(name="imagenet-1k", root=str(class_folders)), "train", (16, 16))
    load(DataSpec(name=str(class_folders)), "train", (8, 8))
    with pytest.raises(InputError, match="holds 18 images"):
        load(DataSpec(name="imagenet-1k", root=str(class_folders)), "train", (8, 8))
    exact = Expectation("three", {"train": 18, "test": 6}, 3)
    assert len(load_directory(class_folders, DataSpec(), "train", (8, 8), exact)) == 18


@pytest.mark.parametrize("field", [{"nme": "digits"}, {"limit_train": 0}, {"bad_images": "ignore"}, {"test_crop": 1.5}])
def test_a_wrong_field_is_an_error(field):
    with pytest.raises(ValidationError):
        DataSpec.model_validate(field)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", ["digits", "fashion-mnist", "folder", "hf:owner/pictures"])
def test_a_size_is_refused_by_sets_that_have_their_own(name, split, class_folders):
    spec = DataSpec(name=str(class_folders) if name == "folder" else name)
    with pytest.raises(
        InputError, match=r"data\.train_size 100 means nothing for .*; .* use data\.limit_train for fewer"
    ):
        load(spec.model_copy(update={"train_size": 100}), split)
    with pytest.raises(InputError, match=r"data\.test_size 7 means nothing for .*; .* use data\.limit_test for fewer"):
        load(spec.model_copy(update={"test_size": 7}), split)


@pytest.mark.parametrize(
    ("split", "size", "message"), [("val", (8, 8), "unknown split 'val'"), ("test", (0, 8), "0x8")]
)
def test_wrong_split_or_size_is_an_error(split, size, message):
    with pytest.raises(InputError, match=message):
        load(DataSpec(name="digits"), split, size)


def test_tiny_imagenet_100_as_it_lies(real_data):
    folder = real_data / "tiny-imagenet-100"
    images = load(DataSpec(name=str(folder)), "test", (32, 32))
    assert (images.name, len(images), len(images.classes)) == ("tiny-imagenet-100", 5000, 100)
    assert images.labels.bincount().tolist() == [50] * 100
    assert images.classes[0] == "goldfish, Carassius auratus"
    grey = (images.read(range(5000))[:, 0] == images.read(range(5000))[:, 2]).flatten(1).all(1)
    assert 20 < int(grey.sum()) < 500, "a few images in a hundred are single-channel"
    train = TarSource(sorted(folder.glob("train-*.tar.gz")))
    assert len(train) == describe("tiny-imagenet-100").train
    assert [row.split("\t")[0] for row in (folder / "classes.tsv").read_text().splitlines()] == list(train.classes)


def test_the_catalogue_is_consistent():
    assert len(catalogue.KNOWN) == len(catalogue.SETS)
    for known in catalogue.SETS:
        assert known.kind == "generated" or (known.folders and known.how)


def test_hub_sets_need_the_datasets_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)  # as on a machine without it
    with pytest.raises(InputError, match=r"hf:owner/pictures needs the datasets library: pip install"):
        load(DataSpec(name="hf:owner/pictures"))
