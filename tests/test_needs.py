"""A missing need skips, and fails where everything was promised; a mistyped place of images always fails."""

from __future__ import annotations

import pytest
from _pytest.outcomes import Failed, Skipped

from tests.conftest import image_folder
from tests.needs import PROMISE, absent


def test_what_is_absent_skips_unless_it_was_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PROMISE, raising=False)
    with pytest.raises(Skipped, match="no compiler"):
        absent("no compiler")
    monkeypatch.setenv(PROMISE, "1")
    with pytest.raises(Failed, match="no compiler"):
        absent("no compiler")


def test_a_mistyped_place_of_images_is_no_reason_to_skip(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.delenv(PROMISE, raising=False)
    monkeypatch.setenv("PATCHSCALE_DATA", str(tmp_path / "imagse"))
    with pytest.raises(Failed, match="imagse"):
        image_folder()
    monkeypatch.setenv("PATCHSCALE_DATA", str(tmp_path))
    assert image_folder() == tmp_path
