"""A run directory as a study leaves it: synthetic losses (named so), real laws fitted to them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from patchscale import laws
from patchscale.studies import Study

SCORES = ("test_loss", "top1", "top5")


def write_run(
    folder: Path,
    *,
    name: str = "synthetic",
    models: tuple[str, ...] = ("deit_pico_patch16", "adventurer_pico_patch16"),
    inputs: tuple[int, ...] = (48,),
    patches: tuple[int, ...] = (24, 16, 12, 8),
    seeds: int = 3,
    points: int = 6,
    inverted: tuple[int, int] | None = (12, 8),
    forms: tuple[str, ...] = ("power_floor", "power"),
    unfinished: int = 0,
) -> Path:
    """Writes study.yaml, trials, results.csv and laws.json for made-up losses that fall as a power of tokens.

    Args:
        folder: the run directory.
        name, models, inputs, patches, seeds: the grid.
        points: test points of a learning curve.
        inverted: a refinement of the first model that the made-up numbers turn round.
        forms: forms fitted per model and input size.
        unfinished: how many of the last trials stop half-way.
    """
    random = np.random.default_rng(7)
    study = Study.model_validate(
        {
            "name": name,
            "title": f"A {name} study: made-up numbers for tests",
            "data": {"name": "digits_in_clutter", "test_size": 20},
            "recipe": {"steps": 640, "learning_rate": 0.003, "precision": "float32"},
            "axes": {
                "model": list(models),
                "input_size": list(inputs),
                "patch_size": list(patches),
                "random_seed": list(range(seeds)),
            },
            "evaluations": points,
            "laws": {"forms": list(forms)},
        }
    )
    grid = study.trials()
    rows, curves = [], []
    for index, planned in enumerate(grid):
        trial = planned.id
        model, size, patch, seed = (planned.axes[axis] for axis in study.axes)
        tokens = (size // patch) ** 2
        width = 1.0 if model.startswith("deit") else 0.96
        final = 0.55 + 1.9 * width * tokens**-0.32 + random.normal(0, 0.012)
        if inverted and model == models[0] and patch == inverted[1]:
            final += 0.25
        flops, steps = 2e6 * tokens * (1 + tokens / 900), 640
        lines = [
            {
                "kind": "test",
                "step": steps >> (points - 1 - k),
                "samples": (steps >> (points - 1 - k)) * 128,
                "train_flops": 3 * flops * (steps >> (points - 1 - k)) * 128,
                "seconds": (4 + 0.15 * tokens) * 2.0 ** (k - points + 1),
                "peak_memory_bytes": int(3e8 + 2e6 * tokens),
                "test_loss": final * (1 + 0.35 * (2.0 ** -(k * (0.6 if patch > 8 else 0.35)))),
                "top1": float(np.clip(0.92 - 0.28 * final + 0.02 * k, 0, 1)),
                "top5": float(np.clip(0.99 - 0.1 * final, 0, 1)),
            }
            for k in range(points)
        ]
        stopped = index >= len(grid) - unfinished
        kept = lines[: points // 2] if stopped else lines
        path = folder / "trials" / trial
        path.mkdir(parents=True)
        (path / "config.json").write_text(planned.config.model_dump_json())
        train = {"kind": "train", "step": 10, "samples": 1280, "loss": 2.2, "learning_rate": 0.001, "seconds": 1.0}
        (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [train, *kept]))
        note = {"step": kept[-1]["step"], "steps": steps, "loss": 1.2, "seconds": kept[-1]["seconds"]}
        (path / "progress.json").write_text(json.dumps(note))
        if stopped:
            continue
        place = {"model": model, "patch_size": patch, "input_size": size, "random_seed": seed}
        curves += [{**place, "trial": trial, **line} for line in kept]
        last = lines[-1]
        row = {
            "trial": trial,
            "study": name,
            "task": "classification",
            "data": "digits_in_clutter",
            "model": model,
            "patch_size": patch,
            "input_size": size,
            "tokens": tokens,
            "random_seed": seed,
            "params": 212_000 + 64 * tokens,
            "params_without_positions": 212_000,
            "flops_per_image": flops,
            "train_flops": last["train_flops"],
            "steps": steps,
            "samples_seen": last["samples"],
            "train_loss": final * 0.97,
            **{score: last[score] for score in SCORES},
            "loss_drop_last_doubling": 1 - last["test_loss"] / lines[-2]["test_loss"],
            "seconds": round(last["seconds"] * random.uniform(0.9, 1.1), 2),
            "images_per_second": 812.5,
            "peak_memory_bytes": last["peak_memory_bytes"],
            "precision": "float32",
            "device": "test machine",
            "commit": "0123456789ab",
        }
        (path / "result.json").write_text(json.dumps(row))
        rows.append(row)
    about = {
        "sharing": {"workers": 1, "threads": 1, "gpus": 0},
        "provenance": {"command": "tests/report", "versions": {"numpy": np.__version__}},
    }
    content = {"study": study.model_dump(mode="json"), **about}
    (folder / "study.yaml").write_text(yaml.safe_dump(content))
    table = pd.DataFrame(rows)
    if rows:
        table.to_csv(folder / "results.csv", index=False)
        (folder / "laws.json").write_text(json.dumps(fitted(name, table, pd.DataFrame(curves), forms)))
    return folder


def fitted(name: str, table: pd.DataFrame, curves: pd.DataFrame, forms: tuple[str, ...]) -> dict:
    """laws.json, by the real functions."""
    group = ["model", "input_size"]
    found = [
        law.to_dict()
        for form in forms
        for law in laws.fit(table, x="tokens", y="test_loss", group=group, form=form, bootstrap=0, starts=64)
    ]
    return {
        "study": name,
        "x": "tokens",
        "y": "test_loss",
        "laws": found,
        "differences": laws.paired_differences(table, by="patch_size", group=group),
        "crossings": laws.crossings(curves, by="patch_size", group=group, x="train_flops", y="test_loss"),
    }


@pytest.fixture(scope="session")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`write_run` into a folder of its own."""
    return lambda **settings: write_run(tmp_path_factory.mktemp("run"), **settings)


@pytest.fixture(scope="session")
def run_directory(make_run: Callable[..., Path]) -> Path:
    """Two models at four patch sizes, three random seeds, one inversion."""
    return make_run()


@pytest.fixture
def predicted_run(run_directory: Path, tmp_path: Path) -> Callable[[Callable[[dict, Path], dict]], Path]:
    """A copy of the run whose trials left predictions: `leave(row, folder)` returns the index of each."""

    def make(leave: Callable[[dict, Path], dict]) -> Path:
        folder = tmp_path / "run"
        shutil.copytree(run_directory, folder)
        for row in pd.read_csv(folder / "results.csv", dtype={"trial": str}).to_dict("records"):
            place = folder / "trials" / row["trial"] / "predictions"
            place.mkdir()
            (place / "index.json").write_text(json.dumps(leave(row, place)))
        return folder

    return make


@pytest.fixture(scope="session")
def large_run(make_run: Callable[..., Path]) -> Path:
    """Five hundred trials: four models, five input sizes, five patch sizes, five random seeds."""
    return make_run(
        models=tuple(f"{family}_{size}_patch16" for family in ("deit", "adventurer") for size in ("pico", "nano")),
        inputs=(32, 64, 128, 256, 512),
        patches=(32, 16, 8, 4, 2),
        seeds=5,
        points=8,
        forms=("power",),
    )
