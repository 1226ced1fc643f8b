"""Processes, placement and accumulation do not change what dense tasks train and measure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from patchscale.data import DataSpec
from patchscale.data.boxes import load_boxes
from patchscale.tasks.detection.ap import truth_of
from patchscale.training import TrialConfig, read_metrics
from tests.training.processes import run_all

TOLERANCE = 1e-5
"""Largest relative difference of a loss within 8 steps; seen: 2e-7."""
FORMS = {
    "one": (1, "ddp", 1),
    "parts": (1, "ddp", 3),
    "ddp": (2, "ddp", 1),
    "ddp-parts": (2, "ddp", 2),
    "fsdp": (2, "fsdp", 1),
}
"""Processes, placement, accumulation."""
TASKS: dict[str, dict[str, Any]] = {
    "segmentation": {"channels": 8, "auxiliary": 0.4, "scale": (0.5, 2.0), "most_of_one_class": 0.8},
    "detection": {
        "width": 16, "box_hidden": 32, "mask_layers": 1, "anchor_scale": 4, "anchors_sampled": 32, "proposals": 40,
        "rois_sampled": 16, "detections": 20, "score_threshold": 0.0, "jitter": (0.6, 1.5),
    },
}  # fmt: skip


def scenes_with_empty_images(folder: Path) -> DataSpec:
    """A COCO json of 14 scenes, in every second of which nothing is annotated."""
    drawn = load_boxes(DataSpec(name="scenes", test_size=14), "test", (48, 64))
    truth = truth_of(drawn)
    for index, entry in enumerate(truth["images"]):
        entry["file_name"] = f"{index}.png"
        drawn.image(index).save(folder / entry["file_name"])
    kept = {entry["id"] for entry in truth["images"][::2]}
    truth["annotations"] = [one for one in truth["annotations"] if one["image_id"] in kept]
    (folder / "scenes.json").write_text(json.dumps(truth))
    return DataSpec(name=str(folder / "scenes.json"))


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_processes_placement_and_accumulation_change_nothing(tmp_path: Path, task: str) -> None:
    """Batches of 5 and 14 or 11 test images divide unevenly; a process may have no object at all in its part."""
    data = DataSpec(name="scenes", train_size=30, test_size=11)
    if task == "detection":
        data = scenes_with_empty_images(tmp_path)
    model = {"name": "adventurer_pico_patch16", "patch_size": 8, "input_size": (48, 64), "drop_path": 0.1}
    recipe = {"steps": 8, "batch_size": 5, "learning_rate": 1e-3, "warmup_steps": 2, "precision": "float32"}
    augment = {"horizontal_flip": 0.5, "color_jitter": 0.3}
    runs = []
    for form, (size, parallel, accumulation) in FORMS.items():
        config = TrialConfig.model_validate(
            {
                "task": task,
                "task_options": TASKS[task],
                "model": model | {"options": {"depth": 2}},
                "data": data,
                "recipe": recipe | {"accumulation": accumulation, "ema_decay": 0.9, "augment": augment},
                "evaluations": 2,
            }
        )
        content = config.model_dump(mode="json")
        runs.append({"config": content, "out": str(tmp_path / form), "size": size, "parallel": parallel})
    run_all(tmp_path, runs)
    first = losses(tmp_path / "one")
    assert len(first) >= 8 + 2
    for run in runs[1:]:
        assert losses(Path(run["out"])) == pytest.approx(first, rel=TOLERANCE), run["out"]


def losses(folder: Path) -> list[float]:
    """Every loss that a trial has logged, in order."""
    return [value for line in read_metrics(folder / "metrics.jsonl") for name, value in line.items() if "loss" in name]
