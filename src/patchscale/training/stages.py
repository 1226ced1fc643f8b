"""Training in stages: each is a plain trial in its own folder that starts from the weights of the one before it.

`<trial>/stages/1-<name>/ ... <n>-final/` hold the stages. When the last is done, the trial's folder receives its
weights, its metrics counted on from those before it, and its row with the FLOPs, time, steps and samples of all.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from patchscale.files import write_bytes, write_json, write_text
from patchscale.training import loop
from patchscale.training.init import Init
from patchscale.training.lengths import lengths
from patchscale.training.loop import CHECKPOINT_SECONDS, NOTHING, Keep, Progress
from patchscale.training.machine import default_device
from patchscale.training.metrics import read_metrics
from patchscale.training.outcome import writing
from patchscale.training.placement import Parallel
from patchscale.training.processes import Processes, join
from patchscale.training.trial import TrialConfig

SUMMED = ("steps", "samples_seen", "train_flops", "seconds")
COUNTED_ON = {"step": "steps", "samples": "samples_seen", "train_flops": "train_flops", "seconds": "seconds"}
"""Fields of a metrics line, and the columns of the rows before it that they are counted on from."""


def train(
    config: TrialConfig,
    folder: Path,
    *,
    report: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    device: torch.device | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    keep: Keep = NOTHING,
    parallel: Parallel = "ddp",
    commit: str = "",
) -> dict[str, Any]:
    """Trains one trial to its end, stage by stage where it has stages; see `loop.train` for arguments and errors."""
    train_one = partial(
        loop.train,
        should_stop=should_stop,
        device=device,
        checkpoint_seconds=checkpoint_seconds,
        keep=keep,
        parallel=parallel,
        commit=commit,
    )
    if not config.stages:
        return train_one(config, folder, report=report)
    with join(device or default_device()) as processes:
        with processes.together(), writing(folder):
            if processes.first:
                folder.mkdir(parents=True, exist_ok=True)
                write_json(folder / "config.json", config.model_dump(mode="json"))
        rows: list[dict[str, Any]] = []
        places = stage_folders(config, folder)
        for trial, place in zip(config.plain(), places, strict=True):
            row = _finished(place, processes)
            if row is None:
                name = trial.trial_id
                if rows:
                    trial, name = _from_stage(trial, places[len(rows) - 1])
                row = train_one(trial, place, report=_counted_on(report, config, rows), name=name)
            rows.append(row)
        with processes.together(), writing(folder):
            if processes.first:
                _write_result(config, folder, places[-1], rows)
        return _row(config, rows)


def stage_folders(config: TrialConfig, folder: Path) -> list[Path]:
    """Where each of a trial's stages is trained, its own last."""
    names = [*(stage.name for stage in config.stages), "final"]
    return [folder / "stages" / f"{number}-{name}" for number, name in enumerate(names, 1)]


def _from_stage(trial: TrialConfig, before: Path) -> tuple[TrialConfig, str]:
    """A stage that starts from the one in folder `before`, and a name of it that outlives a move of the whole trial."""
    init = Init(weights=str(before / "weights.safetensors")).settled()
    anywhere = init.model_copy(update={"weights": before.name})
    return trial.model_copy(update={"init": init}), trial.model_copy(update={"init": anywhere}).trial_id


def _finished(place: Path, processes: Processes) -> dict[str, Any] | None:
    """The row of a stage that was finished earlier, as the first process finds it."""
    row = None
    with processes.together():
        if processes.first:
            result = place / "result.json"
            row = json.loads(result.read_text()) if result.exists() else None
    return processes.share(row)


def _counted_on(
    report: Callable[[Progress], None], config: TrialConfig, rows: list[dict[str, Any]]
) -> Callable[[Progress], None]:
    """Progress of the stage after those of `rows` as that of the whole trial; later stages go at its pace by FLOPs."""
    place, steps, seconds = len(rows), sum(row["steps"] for row in rows), sum(row["seconds"] for row in rows)
    parts = cache(partial(lengths, config))

    def tell(progress: Progress) -> None:
        now, *later = parts(progress.train_size)[place:]
        training = progress.seconds / progress.step / now.work
        testing = progress.test_seconds / now.flops
        report(
            progress._replace(
                step=steps + progress.step,
                steps=steps + progress.steps + sum(part.steps for part in later),
                seconds=seconds + progress.seconds,
                seconds_left=progress.seconds_left
                + sum(training * part.steps * part.work + testing * len(part.points) * part.flops for part in later),
            )
        )

    return tell


def _row(config: TrialConfig, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The last stage's row under the trial's own name, with what all stages took."""
    total: dict[str, Any] = {name: sum(row[name] for row in rows) for name in SUMMED}
    total["seconds"] = round(total["seconds"], 2)
    total["images_per_second"] = round(total["samples_seen"] / total["seconds"], 1)
    total["peak_memory_bytes"] = max(row["peak_memory_bytes"] for row in rows)
    return {**rows[-1], **total, "trial": config.trial_id}


def _write_result(config: TrialConfig, folder: Path, last: Path, rows: list[dict[str, Any]]) -> None:
    before = {name: sum(row[name] for row in rows[:-1]) for name in SUMMED}
    lines = [
        line | {field: line[field] + before[name] for field, name in COUNTED_ON.items() if field in line}
        for line in read_metrics(last / "metrics.jsonl")
    ]
    write_text(folder / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    write_bytes(folder / "weights.safetensors", (last / "weights.safetensors").read_bytes())
    write_json(folder / "result.json", _row(config, rows))
