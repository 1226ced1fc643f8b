"""Class folders, tar shards and parquet files of real digits, whole and damaged."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from patchscale.data import Crop, DataSpec, load
from patchscale.data.encoded import DiskImages, limit_positions
from patchscale.errors import InputError

from .conftest import encode

SIZE = (8, 8)


def originals(folder: Path) -> np.ndarray:
    """The 8x8 grey images of class folders in sorted order, [n, 8, 8]."""
    return np.stack([np.asarray(Image.open(path)) for path in sorted(folder.rglob("*.png"))])


def shard(folder: Path, out: Path, name: str, members: list[Path]) -> None:
    with tarfile.open(out / name, "w:gz" if name.endswith("gz") else "w") as tar:
        for member in members:
            tar.add(member, member.relative_to(folder).as_posix())


@pytest.fixture(params=["train-{}.tar", "train-{}.tar.gz"])
def shards(request, class_folders, tmp_path) -> Path:
    """The class folders as tar shards, one of them holding two classes."""
    out = tmp_path / "shards"
    out.mkdir()
    train = sorted((class_folders / "train").rglob("*.png"))
    shard(class_folders, out, request.param.format(0), train[:10])
    shard(class_folders, out, request.param.format(1), train[10:])
    shard(
        class_folders,
        out,
        request.param.format(0).replace("train-0", "val"),
        sorted((class_folders / "val").rglob("*.png")),
    )
    return out


def test_class_folders_read_as_they_lie(class_folders):
    train, test = (load(DataSpec(name=str(class_folders)), split, SIZE) for split in ("train", "test"))
    assert (train.name, train.classes) == ("three-digits", ("digit-2", "digit-5", "digit-7"))
    assert train.labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert train.in_memory
    expected = torch.from_numpy(originals(class_folders / "train"))[:, None].expand(-1, 3, -1, -1)
    assert torch.equal(train.read(range(18)), expected)
    assert torch.equal(train.read(torch.tensor([4, 1])), expected[[4, 1]])
    assert torch.equal(train.read([2], Crop(5)), expected[[2]]), "held images are not cropped"


@pytest.mark.parametrize("side", ["train", "val"])
def test_a_hidden_folder_is_no_class_in_either_split(class_folders, side):
    (class_folders / side / ".ipynb_checkpoints").mkdir()
    train, test = (load(DataSpec(name=str(class_folders)), split, SIZE) for split in ("train", "test"))
    assert test.classes == train.classes == ("digit-2", "digit-5", "digit-7")
    assert test.labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_shards_equal_folders(class_folders, shards):
    for split in ("train", "test"):
        folders = load(DataSpec(name=str(class_folders)), split, (12, 10))
        packed = load(DataSpec(name=str(shards)), split, (12, 10))
        assert packed.classes == folders.classes
        assert torch.equal(packed.labels, folders.labels)
        assert torch.equal(packed.read(range(len(packed))), folders.read(range(len(folders))))


def test_classes_tsv_gives_order_and_words(shards):
    (shards / "classes.tsv").write_text("digit-7\tseven\ndigit-2\ttwo\ndigit-5\tfive, 5\n")
    images = load(DataSpec(name=str(shards)), "test", SIZE)
    assert images.classes == ("seven", "two", "five, 5")
    assert images.labels.tolist() == [1, 1, 2, 2, 0, 0]


def test_webdataset_shards_equal_folders(class_folders, tmp_path):
    out = tmp_path / "wds"
    out.mkdir()
    for folder, name in (("train", "digits-train-0000.tar"), ("val", "digits-validation-00.tar")):
        with tarfile.open(out / name, "w") as tar:
            for number, file in enumerate(sorted((class_folders / folder).rglob("*.png"))):
                label = str(["digit-2", "digit-5", "digit-7"].index(file.parent.name)).encode()
                for ending, content in (("cls", label), ("json", b"{}"), ("png", file.read_bytes())):
                    member = tarfile.TarInfo(f"{number:05}.{ending}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    for split in ("train", "test"):
        folders, packed = (load(DataSpec(name=str(place)), split, SIZE) for place in (class_folders, out))
        assert packed.classes == ("0", "1", "2")
        assert torch.equal(packed.labels, folders.labels)
        assert torch.equal(packed.read(range(len(packed))), folders.read(range(len(folders))))


def test_parquet_equals_folders(class_folders, tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    out = tmp_path / "hub" / "data"
    out.mkdir(parents=True)
    names = ["digit-2", "digit-5", "digit-7"]
    note = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    for folder, prefix in (("train", "train"), ("val", "validation")):
        files = sorted((class_folders / folder).rglob("*.png"))
        for part in range(2):
            mine = files[part * len(files) // 2 : (part + 1) * len(files) // 2]
            rows = {
                "image": [{"bytes": file.read_bytes(), "path": file.name} for file in mine],
                "label": [names.index(file.parent.name) for file in mine],
            }
            table = pa.table(rows).replace_schema_metadata({"huggingface": json.dumps(note)})
            pq.write_table(table, out / f"{prefix}-0000{part}-of-00002.parquet", row_group_size=4)
    for split in ("train", "test"):
        folders = load(DataSpec(name=str(class_folders)), split, SIZE)
        for memory in (1.0, 0.0):
            tables = load(DataSpec(name=str(tmp_path / "hub"), memory_gib=memory), split, SIZE)
            assert tables.classes == tuple(names)
            assert torch.equal(tables.labels, folders.labels)
            assert torch.equal(tables.read([5, 0, 3]), folders.read([5, 0, 3]))


def test_reading_from_disk_equals_memory_for_the_test_view(class_folders):
    for crop in (1.0, 0.7):
        held = load(DataSpec(name=str(class_folders), test_crop=crop), "test", (12, 20))
        read = load(DataSpec(name=str(class_folders), test_crop=crop, memory_gib=0.0), "test", (12, 20))
        assert isinstance(read, DiskImages)
        assert not read.in_memory
        assert torch.equal(read.read(range(6)), held.read(range(6)))


def test_random_resized_crops_are_a_pure_function_of_seed_row_and_index(class_folders):
    images = load(DataSpec(name=str(class_folders), memory_gib=0.0), "train", (16, 16))
    whole = images.read(range(18), Crop(7))
    assert torch.equal(images.read([11, 12], Crop(7, first_row=11)), whole[[11, 12]])
    assert not torch.equal(images.read([3], Crop(8, first_row=3)), whole[[3]])
    assert not torch.equal(images.read([3]), whole[[3]])


def test_two_views_of_an_image_in_one_batch_are_cropped_differently(class_folders):
    images = load(DataSpec(name=str(class_folders), memory_gib=0.0), "train", (16, 16))
    first, second = images.read([3, 3], Crop(7))
    assert not torch.equal(first, second)


def test_crops_keep_the_share_of_the_area_that_is_asked_for(class_folders):
    images = load(DataSpec(name=str(class_folders), memory_gib=0.0), "test", (16, 16))
    nearly_all = images.read([2] * 20, Crop(0, scale=(0.98, 1.0))).float()
    little = images.read([2] * 20, Crop(0, scale=(0.08, 0.1))).float()
    view = images.read([2]).float()
    assert (nearly_all - view).abs().mean() < 0.25 * (little - view).abs().mean()


def test_compressed_shards_that_do_not_fit_say_what_to_do(shards):
    spec = DataSpec(name=str(shards), memory_gib=0.0)
    if next(shards.glob("train*")).suffix == ".tar":
        assert load(spec, "train", SIZE).read([17]).shape == (1, 3, 8, 8)
    else:
        with pytest.raises(InputError, match="compressed shards cannot be read at random; unpack them"):
            load(spec, "train", SIZE)


def test_limits_are_balanced_and_nested(class_folders):
    def chosen(limit: int) -> set[int]:
        return set(limit_positions(np.repeat([0, 1, 2], 6), limit, seed=0).tolist())

    assert [len(chosen(limit)) for limit in (1, 3, 7, 18, 99)] == [1, 3, 7, 18, 18]
    assert chosen(3) < chosen(7) < chosen(17)
    images = load(DataSpec(name=str(class_folders), limit_train=6), "train", SIZE)
    assert images.labels.bincount().tolist() == [2, 2, 2]
    everything = load(DataSpec(name=str(class_folders)), "train", SIZE)
    assert torch.equal(images.read(range(6)), everything.read(sorted(chosen(6))))


def test_a_folder_without_splits_needs_a_share(class_folders):
    whole = class_folders / "train"
    with pytest.raises(InputError, match="test_fraction"):
        load(DataSpec(name=str(whole)), "train", SIZE)
    spec = DataSpec(name=str(whole), test_fraction=0.34)
    train, test = (load(spec, split, SIZE) for split in ("train", "test"))
    assert (train.labels.bincount().tolist(), test.labels.bincount().tolist()) == ([4, 4, 4], [2, 2, 2])
    seen = {pixels.numpy().tobytes() for split in (train, test) for pixels in split.read(range(len(split)))}
    assert seen == {np.repeat(image[None], 3, 0).tobytes() for image in originals(whole)}


@pytest.mark.parametrize("memory", [1.0, 0.0])
@pytest.mark.parametrize(
    ("damage", "reason"), [("truncated", "truncated"), ("text", "not an image"), ("empty", "not an image")]
)
def test_a_damaged_image_is_named_or_skipped_and_counted(class_folders, damage, reason, memory):
    victim = class_folders / "train" / "digit-5" / "3.jpg"
    photo = encode(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8), ".jpg")
    victim.write_bytes({"truncated": photo[: len(photo) // 2], "text": b"<html>404</html>", "empty": b""}[damage])
    spec = DataSpec(name=str(class_folders), memory_gib=memory)
    with pytest.raises(
        InputError, match=f'digit-5/3.jpg: .*{reason}.*; replace or remove it, or set bad_images to "skip"'
    ):
        load(spec, "train", SIZE).read(range(19))
    kept = load(spec.model_copy(update={"bad_images": "skip"}), "train", SIZE)
    assert kept.labels.bincount().tolist() == [6, 6, 6]
    assert len(kept.skipped) == 1
    assert "3.jpg" in kept.skipped[0]
    assert "bad_images" not in kept.skipped[0], "it is set"
    assert kept.read(range(18)).shape == (18, 3, 8, 8)


def test_a_truncated_shard_is_named(shards):
    victim = sorted(shards.glob("train*"))[0]
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    with pytest.raises(InputError, match=r"train-0\.tar.*is the copy complete"):
        load(DataSpec(name=str(shards)), "train", SIZE)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "I;16", "1"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    ramp = np.tile(np.arange(0, 256, 16, dtype=np.uint8), (16, 1))
    picture = Image.fromarray(ramp)
    picture = Image.fromarray(ramp.astype(np.uint16) * 257) if mode == "I;16" else picture.convert(mode)
    for split in ("train", "val"):
        (tmp_path / split / "ramp").mkdir(parents=True)
        picture.save(tmp_path / split / "ramp" / ("0.tif" if mode == "CMYK" else "0.png"))
    pixels = load(DataSpec(name=str(tmp_path)), "test", (16, 16)).read([0])[0].float()
    assert pixels.shape == (3, 16, 16)
    if mode == "1":
        assert set(pixels.unique().tolist()) == {0.0, 255.0}
        assert pixels[:, :, :8].mean() < pixels[:, :, 8:].mean()
    else:
        assert (pixels - torch.from_numpy(ramp)).abs().max() <= 2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: shutil.rmtree(root / "val"), r"has no test images: found no a folder val or|has no test images"),
        (lambda root: shutil.rmtree(root / "train"), "no train/ and val/|known here"),
        (lambda root: (root / "val" / "digit-9").mkdir(), "'digit-9', which is none of the 3 known classes"),
        (lambda root: [file.unlink() for file in (root / "val").rglob("*.png")], "but no images"),
    ],
)
def test_incomplete_folders_say_what_is_missing(class_folders, make, message):
    make(class_folders)
    with pytest.raises(InputError, match=message):
        load(DataSpec(name=str(class_folders)), "test", SIZE)


def test_a_changed_file_is_decoded_anew_and_an_unchanged_set_is_not(class_folders, cache_folder):
    spec = DataSpec(name=str(class_folders))
    before = load(spec, "train", SIZE).read([0])
    entries = sorted((cache_folder / "pixels").iterdir())
    load(spec, "train", SIZE)
    assert sorted((cache_folder / "pixels").iterdir()) == entries
    victim = class_folders / "train" / "digit-2" / "0.png"
    victim.write_bytes(encode(np.full((8, 8), 77, dtype=np.uint8)))
    os.utime(victim, ns=(1, 1))
    after = load(spec, "train", SIZE).read([0])
    assert (after == 77).all()
    assert not torch.equal(before, after)


def test_a_changed_label_order_is_not_taken_from_the_cache(shards, class_folders):
    before = load(DataSpec(name=str(shards)), "test", SIZE).labels.tolist()
    (shards / "classes.tsv").write_text("digit-7\tseven\ndigit-2\ttwo\ndigit-5\tfive\n")
    assert load(DataSpec(name=str(shards)), "test", SIZE).labels.tolist() != before
    folders = load(DataSpec(name=str(class_folders)), "test", SIZE)
    (class_folders / "train" / "digit-1").mkdir()
    later = load(DataSpec(name=str(class_folders)), "test", SIZE)
    assert later.classes == ("digit-1", *folders.classes)
    assert later.labels.tolist() == [label + 1 for label in folders.labels.tolist()]


def test_a_cache_that_cannot_be_written_is_said(class_folders, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PATCHSCALE_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="set PATCHSCALE_CACHE"):
        load(DataSpec(name=str(class_folders)), "train", SIZE)


def test_a_failed_decoding_leaves_nothing_behind(class_folders, cache_folder):
    (class_folders / "train" / "digit-2" / "zz.png").write_bytes(b"no")
    with pytest.raises(InputError):
        load(DataSpec(name=str(class_folders)), "train", SIZE)
    assert not [entry for entry in (cache_folder / "pixels").iterdir() if entry.is_dir()]


def test_bytes_of_an_image_are_read_where_they_lie(shards):
    from patchscale.data.sources import TarSource

    source = TarSource(sorted(shards.glob("train*")))
    streamed = dict(pair for part in range(source.parts()) for pair in source.stream(part))
    assert sorted(streamed) == list(range(18))
    if source.random_access:
        assert all(source.content(index) == content for index, content in streamed.items())
    assert Image.open(io.BytesIO(streamed[0])).size == (8, 8)
