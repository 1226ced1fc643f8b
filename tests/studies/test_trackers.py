"""Trackers as mirrors: every line once, also across resumes; what goes wrong in one never reaches the run."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from patchscale.errors import InputError
from patchscale.studies import mirror
from patchscale.studies.trackers import check_trackers, mirrored
from patchscale.training.metrics import MetricsFile

CONFIG = {
    "model": {"name": "deit_pico_patch16", "patch_size": 8, "input_size": [16, 24]},
    "recipe": {"steps": 4, "mixing": {"mixup": 0.8}},
    "random_seed": 3,
}
NAME = "deit_pico_patch16-p8-16x24-seed3-abc"


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    folder = tmp_path / "trials" / "abc"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def train(folder: Path, *steps: int) -> None:
    """Metrics lines as training writes them."""
    metrics = MetricsFile(folder / "metrics.jsonl")
    for step in steps:
        metrics.append(kind="train", step=step, samples=32 * step, loss=1 / step)
        metrics.append(kind="test", step=step, samples=32 * step, test_loss=2 / step)


def needs(name: str):
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")


def copy(run: Path, *names: str) -> list[str]:
    said: list[str] = []
    with mirrored(run, names, said.append):
        pass
    return said


@needs("tensorboard")
def test_tensorboard_gets_every_line_once_across_resumes(tmp_path: Path, trial: Path) -> None:
    said: list[str] = []
    train(trial, 1, 2)
    with mirrored(tmp_path, ["tensorboard"], said.append):
        train(trial, 3)
    MetricsFile(trial / "metrics.jsonl").cut_after(2)
    train(trial, 3, 4)
    (trial / "result.json").write_text("{}")
    assert said + copy(tmp_path, "tensorboard") == []
    points = read_tensorboard(tmp_path / "trackers" / "tensorboard" / NAME)
    assert points["train/loss"] == pytest.approx({1: 1.0, 2: 0.5, 3: 1 / 3, 4: 0.25})
    assert points["test/test_loss"] == pytest.approx({1: 2.0, 2: 1.0, 3: 2 / 3, 4: 0.5})


@needs("tensorboard")
def test_the_test_loss_of_weights_that_were_taken_over_is_copied(tmp_path: Path, trial: Path) -> None:
    MetricsFile(trial / "metrics.jsonl").append(kind="init", step=0, samples=0, test_loss=3.0)
    assert copy(tmp_path, "tensorboard") == []
    train(trial, 1)
    assert copy(tmp_path, "tensorboard") == []
    points = read_tensorboard(tmp_path / "trackers" / "tensorboard" / NAME)
    assert points["init/test_loss"] == {0: 3.0}
    assert points["test/test_loss"] == {1: 2.0}


def read_tensorboard(folder: Path) -> dict[str, dict[int, float]]:
    """Scalars by tag and step; fails if a point was written twice."""
    script = """
import json, sys, warnings
warnings.simplefilter("ignore")
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={"tensors": 0}); events.Reload()
from tensorboard.util.tensor_util import make_ndarray
tags = events.Tags()["tensors"]
print(json.dumps({tag: [(e.step, float(make_ndarray(e.tensor_proto))) for e in events.Tensors(tag)] for tag in tags}))
"""
    printed = subprocess.run([sys.executable, "-c", script, str(folder)], check=True, capture_output=True, text=True)
    points = json.loads(printed.stdout)
    assert all(len({step for step, _ in found}) == len(found) for found in points.values())
    return {tag: dict(found) for tag, found in points.items()}


@needs("mlflow")
def test_mlflow_file_store(tmp_path: Path, trial: Path) -> None:
    train(trial, 1, 2)
    assert copy(tmp_path, "mlflow") == []
    train(trial, 3)
    (trial / "result.json").write_text("{}")
    assert copy(tmp_path, "mlflow") == []
    (run,) = (tmp_path / "trackers" / "mlruns").glob("*/*/metrics")
    lines = [line.split() for line in (run / "train" / "loss").read_text().splitlines()]
    points = [(int(step), float(value)) for _, value, step, *_ in lines]
    assert points == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert (run.parent / "params" / "recipe.mixing.mixup").read_text() == "0.8"
    assert (run.parent / "params" / "model.input_size").read_text() == "[16, 24]"
    assert "status: 3" in (run.parent / "meta.yaml").read_text(), "a finished trial's run is finished"


@needs("wandb")
def test_wandb_writes_offline_runs(tmp_path: Path, trial: Path) -> None:
    train(trial, 1, 2)
    (trial / "result.json").write_text("{}")
    assert copy(tmp_path, "wandb") == []
    (file,) = (tmp_path / "trackers" / "wandb").glob("offline-run-*-abc/run-abc.wandb")
    content = file.read_bytes()
    assert b"train/loss" in content
    assert b"patch_size" in content


@needs("trackio")
def test_trackio_keeps_its_database_in_the_run_directory(tmp_path: Path, trial: Path) -> None:
    train(trial, 1, 2)
    (trial / "result.json").write_text("{}")
    assert copy(tmp_path, "trackio") == []
    (file,) = (tmp_path / "trackers" / "trackio").glob("*.db")
    with contextlib.closing(sqlite3.connect(file)) as database:
        rows = database.execute("select step, metrics from metrics order by step").fetchall()
    found = [(step, json.loads(metrics)) for step, metrics in rows]
    assert [(step, line["train/loss"]) for step, line in found if "train/loss" in line] == [(1, 1.0), (2, 0.5)]


@needs("tensorboard")
def test_a_tracker_that_fails_says_one_line_and_the_run_goes_on(tmp_path: Path, trial: Path) -> None:
    train(trial, 1)
    (tmp_path / "trackers").mkdir()
    (tmp_path / "trackers" / "tensorboard").write_text("a file where a folder must be")
    (said,) = copy(tmp_path, "tensorboard")
    assert said.startswith("warning: tracker tensorboard stopped (")
    assert "\n" not in said


@needs("tensorboard")
def test_a_killed_mirror_is_one_warning(tmp_path: Path, trial: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dying = tmp_path / "dying.py"
    dying.write_text("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.setattr(mirror, "__file__", str(dying))
    (said,) = copy(tmp_path, "tensorboard")
    assert said.startswith("warning: trackers ended with exit code -9")


@needs("tensorboard")
def test_one_trial_by_itself_is_mirrored_too(tmp_path: Path, trial: Path) -> None:
    train(trial, 1)
    assert copy(trial, "tensorboard") == []
    assert os.listdir(trial / "trackers" / "tensorboard") == [NAME]


def test_unknown_and_missing_trackers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="unknown tracker 'tensorbord'; use one of tensorboard, wandb, mlflow"):
        check_trackers(["tensorbord"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"tracker wandb is not installed; pip install 'patchscale\[trackers\]'"):
        check_trackers(["wandb"])


def test_no_tracker_starts_nothing(tmp_path: Path) -> None:
    assert copy(tmp_path) == []
    assert not list(tmp_path.iterdir())
