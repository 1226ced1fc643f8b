"""A finished study of vision tokens with made-up scores (named so), as trials leave it; tables and laws are real."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from patchscale.studies import load_study
from patchscale.studies.analysis import analyse
from patchscale.studies.run_directory import RunDirectory
from patchscale.training.costs import cost_of_trial

COUNTS = (1, 2, 4)
SETTINGS = ["axes.random_seed=[0,1]", "axes.task.vision_tokens=[1,2,4]", "task_options.nested=[1,2,4]",
            "laws.forms=[power]", "evaluations=1"]  # fmt: skip
SCORES = ("dense_token_accuracy", "dense_exact_match", "colour_exact_match")


def score_of(count: int, seed: int, nested: bool) -> float:
    """Made up: rises with n, a little less where one model serves every n."""
    return float(0.45 * count ** (0.4 if nested else 0.5) + 0.01 * seed)


def write_vision_run(folder: Path) -> Path:
    """Writes the run directory and returns it; `analyse` makes results.csv and laws.json of it."""
    study = load_study("vlm_tokens", scale="tiny", settings=[*SETTINGS, "skip=[]"])
    folder.mkdir(parents=True, exist_ok=True)
    for trial in study.trials():
        options, seed = trial.config.task_options, trial.config.random_seed
        nested, count = options["protocol"] == "nested", options["vision_tokens"]
        if nested and count != COUNTS[-1]:
            continue
        counts = COUNTS if nested else (count,)
        path = folder / "trials" / trial.id
        (path / "predictions").mkdir(parents=True)
        (path / "config.json").write_text(trial.config.model_dump_json())
        each = {f"{k}_n{c}": v for c in counts for k, v in _scores(c, seed, nested).items()} if nested else {}
        scores = {**_scores(counts[-1], seed, nested), **each}
        spent = {"train_flops": 1e9, "seconds": 9.0 + seed, "peak_memory_bytes": 3e8}
        test = {"kind": "test", "step": 800, "samples": 51200, **spent, **scores}
        (path / "metrics.jsonl").write_text(json.dumps(test) + "\n")
        row = {
            "trial": trial.id,
            "task": "captioning",
            "data": "glyphs",
            "model": "deit_atto_patch16",
            "patch_size": 8,
            "input_size": 16,
            "tokens": 4,
            "random_seed": seed,
            "params": 60_000,
            "steps": 800,
            "samples_seen": 51200,
            "flops_per_image": cost_of_trial(trial.config, 20).flops_forward,
            "train_loss": 1.0,
            **scores,
            **spent,
            "loss_drop_last_doubling": 0.01,
            "images_per_second": 3000.0,
            "precision": "float32",
            "device": "test machine",
            "commit": "0" * 12,
        }
        (path / "result.json").write_text(json.dumps(row))
        _leave_examples(path / "predictions", counts, nested)
    about = {"sharing": {"workers": 1, "threads": 1, "gpus": 0}, "provenance": {"command": "tests/report"}}
    content = {"study": study.model_dump(mode="json"), **about}
    (folder / "study.yaml").write_text(yaml.safe_dump(content))
    analyse(RunDirectory(folder))
    return folder


def _scores(count: int, seed: int, nested: bool) -> dict[str, float]:
    value = score_of(count, seed, nested)
    return {"test_loss": 2.0 - value, "token_accuracy": value, "exact_match": value, **dict.fromkeys(SCORES, value)}


def _leave_examples(folder: Path, counts: tuple[int, ...], nested: bool) -> None:
    """Two images; the whole grid is right from n = 2 on, the pointed question only where a model serves every n."""
    images = []
    for index in (0, 9):
        Image.fromarray(np.full((16, 16, 3), index, np.uint8)).save(folder / f"{index}_image.png")
        dense = {"kind": "dense", "question": "list all colours", "truth": "red blue", "right": [c > 1 for c in counts]}
        dense["said"] = ["red blue" if c > 1 else "red red" for c in counts]
        colour = {"kind": "colour", "question": "what colour is a1", "truth": "red", "right": [nested for _ in counts]}
        colour["said"] = ["red" if nested else "" for _ in counts]
        images.append({"index": index, "image": f"{index}_image.png", "asked": [dense, colour]})
    content = {"kind": "captioning", "counts": list(counts), "images": images}
    (folder / "index.json").write_text(json.dumps(content))
