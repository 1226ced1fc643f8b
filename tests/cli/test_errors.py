"""Bad input on the command line: one clear line, exit code 2, nothing written."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image


def patchscale(*words: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "patchscale", *map(str, words)], capture_output=True, text=True, cwd=cwd
    )


def assert_refused(done: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1, done.stderr
    for part in parts:
        assert part in done.stderr


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--set", "axes.patch_size=[5]"], ["patch_size 5 does not divide image height 48", "use one of"]),
        (["--set", "axes.model=[deit_pica_patch16]"], ["unknown model 'deit_pica_patch16'", "deit_pico_patch16"]),
        (["--data", "no/such/images"], ["no/such/images"]),
        (["--set", "recipe.learningrate=1"], ["unknown key 'recipe.learningrate'"]),
        (["--launcher", "moon"], ["unknown launcher 'moon'"]),
        (["--slurm", "time=10"], ["add --launcher slurm"]),
        (["--tracker", "paper"], ["unknown tracker 'paper'", "tensorboard"]),
        (["--colour", "red"], ["--colour", "--help"]),
    ],
)
def test_a_study_that_cannot_run_is_refused_before_anything_is_written(
    tmp_path: Path, words: list[str], parts: list[str]
) -> None:
    assert_refused(patchscale("study", "run", "quickstart", "--out", tmp_path / "run", *words), *parts)
    assert not list(tmp_path.iterdir())


def test_a_mistyped_key_in_a_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("name: mine\ntitel: My study\n")
    assert_refused(patchscale("study", "run", file, cwd=tmp_path), "mine.yaml", "'titel'")


def test_a_truncated_image_is_named(tmp_path: Path) -> None:
    content = io.BytesIO()
    Image.effect_noise((32, 32), 40).convert("RGB").save(content, "JPEG")
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            (folder / "one.jpg").write_bytes(content.getvalue())
    (tmp_path / "images" / "train" / "dog" / "two.jpg").write_bytes(content.getvalue()[:-200])
    words = ["--data", tmp_path / "images", "--out", tmp_path / "run"]
    assert_refused(patchscale("study", "run", "quickstart", *words), "dog/two.jpg")
    assert not (tmp_path / "run").exists()


def test_a_negative_loss_column_is_named(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("tokens,test_loss\n4,2.0\n16,1.5\n64,-1.2\n256,1.1\n")
    assert_refused(patchscale("fit", tmp_path / "table.csv"), "test_loss", "-1.2")
    assert_refused(patchscale("fit", tmp_path / "none.csv"), "no table at")
    assert_refused(patchscale("fit", tmp_path / "table.csv", "--y", "loss"), "loss")


def test_a_file_that_is_no_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "photo.csv").write_bytes(b"\x89PNG\r\n\x1a\n" * 9)
    words = ["plan", "--device", "cpu", "--budget-hours", 1, "--data-size", 1000, "--table"]
    for command in (words, ["fit"]):
        assert_refused(patchscale(*command, tmp_path / "photo.csv"), "photo.csv is not a CSV table", "utf-8")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["fit", "table.csv", "--bootstrap", "-1"], ["--bootstrap", "greater than or equal to 0"]),
        (["cost", "--model", "deit_pico_patch16", "--patches", "²"], ["--patches '²'", "as in 16,8,4"]),
        (["cost", "--model", "deit_pico_patch16", "--input", "160x224x3"], ["'160x224x3'", "height x width"]),
        (["cost", "--model", "deit_pico_patch16", "--input", "160x"], ["'160x'", "height x width"]),
        (["cost", "--model", "deit_pico_patch16", "--input", "²"], ["'²'", "height x width"]),
    ],
)
def test_numbers_that_are_none_are_named(words: list[str], parts: list[str]) -> None:
    assert_refused(patchscale(*words), *parts)


def test_a_plan_without_memory_is_still_json() -> None:
    words = ["plan", "--device", "a100", "--memory", 1, "--budget-hours", 1, "--data-size", 1000, "--json"]
    done = patchscale(*words)
    assert done.returncode == 0, done.stderr

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    lines = json.loads(done.stdout, parse_constant=refuse)["configurations"]
    assert [line["over"] for line in lines] == [None] * len(lines)


def test_unknown_commands_and_weights_are_refused(tmp_path: Path) -> None:
    assert_refused(patchscale("plann"), "plann")
    assert_refused(patchscale("evaluate", tmp_path / "none.safetensors"), "no weights at")
    (tmp_path / "bad.safetensors").write_bytes(b"not safetensors")
    assert_refused(patchscale("evaluate", tmp_path / "bad.safetensors"), "bad.safetensors")


def test_places_that_cannot_be_written_are_refused_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    weights = tmp_path / "none.safetensors"
    done = patchscale("predict", tmp_path, "--weights", weights, "--out", tmp_path / "file")
    assert_refused(done, "--out", "file is a file; give the folder")
    assert_refused(
        patchscale("cost", "--model", "deit_pico_patch16", "--keep", 4), "give --reducer and --keep together"
    )
    assert_refused(patchscale("cost", "--calibrate", tmp_path / "no" / "here.json"), "here.json cannot be written")
