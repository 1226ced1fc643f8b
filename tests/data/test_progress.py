"""Long preparations say how far they are, quick ones nothing."""

from __future__ import annotations

import re

import pytest

from patchscale.data import progress
from patchscale.data.progress import Progress, counted


def test_every_item_comes_and_the_time_left_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    assert list(counted("abcdefgh", 8, "drawing letters")) == list("abcdefgh")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == ["drawing letters: 3 of 8, 0:20 left", "drawing letters: 6 of 8, 0:08 left"]


def test_what_is_quick_says_nothing(capsys: pytest.CaptureFixture):
    done = Progress(3, "drawing letters")
    for _ in range(3):
        done.add()
    assert capsys.readouterr().err == ""


def test_decoding_a_folder_is_counted(tmp_path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """A real folder of images, with no pause between lines: every image but the last is told."""
    from PIL import Image

    from patchscale.data import DataSpec, load

    monkeypatch.setattr(progress, "PAUSE_SECONDS", 0.0)
    monkeypatch.setenv("PATCHSCALE_CACHE", str(tmp_path / "cache"))
    for split in ("train", "val"):
        for name in ("a", "b"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(3):
                Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number}.png")
    load(DataSpec(name=str(tmp_path / "images")), "train", (8, 8))
    told = re.findall(r"decoding images to 8x8, once: (\d) of 6", capsys.readouterr().err)
    assert sorted(told) == ["1", "2", "3", "4", "5"]
