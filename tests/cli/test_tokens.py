"""`patchscale tokens` as a user runs it: a picture, numbers, and one line when something is wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from patchscale.cli import app
from patchscale.data import DataSpec
from patchscale.errors import InputError
from patchscale.tasks import ModelSpec, build_network
from patchscale.training import Recipe, TrialConfig
from patchscale.training.weights import save_weights

runner = CliRunner()


@pytest.fixture
def photo(tmp_path):
    ramp = np.add.outer(np.arange(40), np.arange(60))
    pixels = np.stack([ramp * 2, 255 - ramp, np.random.default_rng(0).integers(0, 255, (40, 60))], axis=2)
    Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def run(*words):
    return runner.invoke(app, ["tokens", *map(str, words)], catch_exceptions=False)


def test_a_picture_and_numbers(photo, tmp_path):
    out = tmp_path / "deep" / "tokens.png"
    done = run(photo, "--size", 32, "--patches", "8,4", "--keep", 6, "--method", "qr,pool", "--out", out, "--json")
    rows = json.loads(done.stdout)
    assert [(row["method"], row["tokens"], row["kept"]) for row in rows] == [
        ("qr", 16, 6), ("pool", 16, 6), ("qr", 64, 6), ("pool", 64, 6)
    ]  # fmt: skip
    assert rows[0]["missing"] < rows[1]["missing"]
    assert out.read_bytes().startswith(b"\x89PNG")
    text = run(photo, "--size", 32, "--patches", 8, "--keep", 6, "--out", out).stdout
    assert "spanning at 5 %" in text
    assert f"picture: {out}" in text


def test_a_picture_without_an_ending_is_named_as_it_is_written(photo, tmp_path):
    words = ("--size", 32, "--patches", 8, "--keep", 6, "--out", tmp_path / "shown")
    assert f"picture: {tmp_path / 'shown.png'}" in run(photo, *words).stdout
    assert (tmp_path / "shown.png").is_file()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("photo.png/t.png", r"--out .*t\.png cannot be written \(.*photo\.png: File exists\); choose another"),
        ("folder", r"--out .*folder is a folder; give a file, as in .*folder/tokens\.png"),
        ("t.xyz", r"--out .*t\.xyz: no picture can be written as \.xyz; use \.png"),
    ],
)
def test_places_that_no_picture_can_be_written_to(photo, tmp_path, out, message):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match=message):
        run(photo, "--size", 32, "--patches", 8, "--keep", 6, "--out", tmp_path / out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "photo.png"]


def test_tokens_of_a_trained_model(photo, tmp_path):
    spec = ModelSpec(name="deit_atto_patch16", patch_size=8, input_size=(32, 32))
    config = TrialConfig(model=spec, data=DataSpec(), recipe=Recipe(steps=1))
    model = build_network("classification", spec, 3, {})
    weights = tmp_path / "weights.safetensors"
    half = (0.5, 0.5, 0.5)
    save_weights(weights, model, config, encoder=model, classes=("a", "b", "c"), mean=half, std=half)
    words = ("--weights", weights, "--layer", 1, "--keep", 4, "--method", "attention,visionzip,tome", "--json")
    rows = json.loads(run(photo, *words, "--out", tmp_path / "t.png").stdout)
    assert [row["method"] for row in rows] == ["attention", "visionzip", "tome"]
    assert {row["layer"] for row in rows} == {1}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--method", "attention"), "chooses by a model's attention; give --weights"),
        (("--method", "filtering"), "must be trained and cannot be shown by itself"),
        (("--method", "tomee"), "unknown reducer 'tomee'; use one of tome"),
        (("--method", ","), "names no method"),
        (("--patches", "5"), "patch_size 5 does not divide"),
    ],
)
def test_mistakes(photo, tmp_path, words, message):
    with pytest.raises(InputError, match=message):
        run(photo, "--size", 32, "--keep", 4, "--out", tmp_path / "t.png", *words)
    with pytest.raises(InputError, match="no image at"):
        run(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(InputError, match=r"text\.png: not an image that Pillow knows; replace or remove it$"):
        run(tmp_path / "text.png", "--out", tmp_path / "t.png")
