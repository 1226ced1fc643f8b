"""The commands, as a user types them."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.test_errors import patchscale


def ok(*words: str | Path) -> str:
    done = patchscale(*words)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained trial on two colours of images in folders."""
    folder = tmp_path_factory.mktemp("colours")
    for split, count in (("train", 24), ("val", 6)):
        for name, colour in (("blue", (40, 60, 200)), ("red", (200, 60, 40))):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                noise = Image.effect_noise((20, 20), 30).convert("RGB")
                image = Image.blend(noise, Image.new("RGB", (20, 20), colour), 0.6)
                image.save(folder / split / name / f"{index}.png")
    config = {
        "model": {"name": "deit_pico_patch16", "patch_size": 8, "input_size": 16, "options": {"depth": 1}},
        "data": {"name": str(folder)},
        "recipe": {"steps": 30, "batch_size": 16, "learning_rate": 0.003, "precision": "float32"},
    }
    file = folder / "trial.yaml"
    file.write_text(json.dumps(config))
    ok("train", file, "--out", folder / "trial")
    return folder


def test_training_evaluating_and_predicting(trial: Path, tmp_path: Path) -> None:
    weights = trial / "trial" / "weights.safetensors"
    scores = json.loads(ok("evaluate", weights, "--json"))
    assert scores["top1"] == 1.0
    images = trial / "val"
    printed = ok("predict", images / "red", images / "blue" / "0.png", "--weights", weights, "--out", tmp_path)
    assert "red" in printed
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    best = {row["image"]: row["class"] for row in rows if row["rank"] == "1"}
    assert len(best) == 7
    assert all(Path(image).parent.name == name for image, name in best.items())
    assert sum(float(row["probability"]) for row in rows) == pytest.approx(7)


def test_the_same_command_continues_and_another_trial_is_refused(trial: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in (trial / "trial").iterdir() if file.suffix}
    row = json.loads(ok("train", trial / "trial.yaml", "--out", trial / "trial", "--json"))
    assert row == json.loads((trial / "trial" / "result.json").read_text())
    assert before == {file: file.stat().st_mtime_ns for file in (trial / "trial").iterdir() if file.suffix}
    done = patchscale("train", trial / "trial.yaml", "--set", "random_seed=5", "--out", trial / "trial")
    assert done.returncode == 2
    assert "holds another trial" in done.stderr


def test_dry_runs_train_nothing(trial: Path, tmp_path: Path) -> None:
    resolved = json.loads(ok("train", trial / "trial.yaml", "--dry-run", "--set", "recipe.steps=9"))
    assert resolved["recipe"]["steps"] == 9
    out = tmp_path / "run"
    plan = json.loads(ok("study", "run", "patchification", "--scale", "paper", "--dry-run", "--json", "--out", out))
    assert not out.exists()
    tokens = {(row["model"], row["input_size"], row["patch_size"]): row["tokens"] for row in plan["trials"]}
    assert tokens["adventurer_base_patch16", 224, 1] == 50_176
    assert ("deit_base_patch16", 224, 16) not in tokens
    images = ["--set", f"data.name={trial}", "--set", "axes.patch_size=[8]", "--set", "axes.input_size=[16]"]
    images += ["--set", "model.options.depth=1"]
    plan = json.loads(ok("study", "run", "quickstart", "--dry-run", "--json", *images))
    assert plan["classes"] == 2
    row = next(row for row in plan["trials"] if row["model"] == "deit_pico_patch16")
    trained = json.loads((trial / "trial" / "result.json").read_text())
    assert (row["tokens"], row["params"]) == (trained["tokens"], trained["params"])


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_stopped_study_keeps_what_was_done(tmp_path: Path, number: signal.Signals, code: int) -> None:
    words = "study run quickstart --out run --set recipe.steps=4000 --set data.train_size=64 --set data.test_size=20"
    command = [sys.executable, "-m", "patchscale", *words.split()]
    # Whoever runs the tests may have SIGINT ignored, which children inherit; a terminal's default is what is tested.
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, ignored)
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("run/trials/*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == code
    assert errors == "stopped; the same command continues\n"
    assert list(tmp_path.glob("run/trials/*/checkpoints/last.safetensors"))
    status = json.loads(ok("study", "status", tmp_path / "run", "--json"))
    assert "interrupted" in {row["state"] for row in status["trials"]}
    assert "running" not in {row["state"] for row in status["trials"]}


def test_trials_that_cannot_be_started_any_more_are_one_line(tmp_path: Path) -> None:
    words = "study run quickstart --out run --set recipe.steps=4000 --set data.train_size=64 --set data.test_size=20"
    process = subprocess.Popen(
        [sys.executable, "-m", "patchscale", *words.split()],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("run/trials/*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    (nursery,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(nursery), signal.SIGKILL)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 1
    assert errors.startswith("error: the process that starts trials is gone (its process was ended by SIGKILL")
    assert errors.count("\n") == 1


def test_published_sizes_are_counted():
    """The paper's rounded millions hold but for Adventurer-Huge, whose architecture makes 718 M of its 759 M."""
    rows = {row["model"]: row for row in json.loads(ok("cost", "--json"))}
    assert len(rows) == 10
    apart = {name: abs(row["params"] - row["published"]) / 1e6 for name, row in rows.items()}
    assert apart.pop("adventurer_huge_patch16") == pytest.approx(40.97, abs=0.01)
    assert max(apart.values()) < 1.21
    assert rows["adventurer_base_patch16"]["params"] == 98_657_608


def test_numbers_as_json() -> None:
    rows = json.loads(ok("cost", "--model", "adventurer_base_patch16", "--patches", "16,1", "--json"))
    assert [row["tokens"] for row in rows] == [196, 50_176]
    assert rows[0]["params"] == pytest.approx(98.66e6, rel=1e-3)
    assert len(json.loads(ok("published", "1", "--json"))) == 24
    assert {row["name"] for row in json.loads(ok("study", "list", "--json"))} >= {"quickstart", "patchification"}
    assert "patch_size:" in ok("study", "show", "quickstart")


def test_cost_of_fewer_tokens() -> None:
    words = ("cost", "--model", "deit_base_patch16", "--patches", "8")
    fewer = (*words, "--reducer", "tome", "--keep", "98")
    (full,), (few,), (late,) = (json.loads(ok(*call, "--json")) for call in (words, fewer, (*fewer, "--before", "6")))
    for count in ("flops_forward", "activation_bytes"):
        assert few[count] < 0.25 * full[count] < late[count] < full[count]
    assert (full["kept_tokens"], few["kept_tokens"]) == (784, 98)
    assert "98 tokens kept by tome from block 0 on" in ok(*fewer)


def test_fit_reads_any_table(tmp_path: Path) -> None:
    lines = [
        f"{size},{n},{0.5 + 2 * n**-0.5 + shift}"
        for size, shift in (("s", 0), ("b", -0.1))
        for n in (4, 16, 64, 256, 1024)
    ]
    (tmp_path / "mine.csv").write_text("\n".join(["size,n,error", *lines]) + "\n")
    laws = json.loads(ok("fit", tmp_path / "mine.csv", "--x", "n", "--y", "error", "--group", "size", "--json"))
    floors = {law["group"]["size"]: law["params"]["floor"]["value"] for law in laws}
    assert floors == pytest.approx({"s": 0.5, "b": 0.4}, rel=1e-4)
    assert "size=s" in ok("fit", tmp_path / "mine.csv", "--x", "n", "--y", "error", "--group", "size")
