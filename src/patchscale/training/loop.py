"""The training loop of one trial: steps, test points, metrics lines, checkpoints; stops and resumes at any step."""

from __future__ import annotations

import functools
import itertools
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from patchscale.data import EpochSampler
from patchscale.files import write_json, write_text
from patchscale.tasks import Batch, Task, build_task, evaluate
from patchscale.training.ahead import Ahead
from patchscale.training.checkpoint import load_checkpoint, save_checkpoint
from patchscale.training.costs import cost_of_trial
from patchscale.training.init import apply_init
from patchscale.training.machine import default_device, describe_device, peak_memory_bytes
from patchscale.training.metrics import MetricsFile, read_metrics
from patchscale.training.optimizer import build_average, build_optimizer, build_schedule
from patchscale.training.result import result_row
from patchscale.training.seeding import derive
from patchscale.training.trial import TrialConfig
from patchscale.training.weights import save_weights

METRICS_LINES = 50
BATCHES_AHEAD = 2
CHECKPOINT_SECONDS = 20.0
"""Default time between checkpoints: what an interruption can lose."""


class Progress(NamedTuple):
    """What a trial says of itself after every step."""

    step: int
    steps: int
    loss: float
    seconds: float
    """Time in training steps so far, over all sessions of the trial."""
    seconds_left: float
    """Estimate of what steps and test points still take."""
    test_seconds: float
    """Time of the last test point of this session; 0 before the first."""


class Stopped(Exception):
    """The trial was asked to stop; its checkpoint is written and the same call continues it."""


class TrainingFailed(RuntimeError):
    """The trial cannot go on; the message says where and why."""


def train(
    config: TrialConfig,
    folder: Path,
    *,
    report: Callable[[Progress], None] = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
    device: torch.device | None = None,
    checkpoint_seconds: float = CHECKPOINT_SECONDS,
    commit: str = "",
) -> dict[str, Any]:
    """Trains one trial to its end, continuing from its last checkpoint if there is one.

    Args:
        config: the resolved trial; `precision` must be settled.
        folder: the trial's folder; receives config.json, metrics.jsonl, checkpoints/, weights.safetensors, result.json.
        report: called after every step.
        should_stop: asked after every step; True writes a checkpoint and raises `Stopped`.
        device: where to train; the first GPU if there is one, else the CPU.
        checkpoint_seconds: time between checkpoints; 0 writes one after every step.
        commit: of the code that trains, for the table.

    Returns:
        The trial's row of the result table.

    Raises:
        InputError: the configuration does not fit the data or the model.
        Stopped: `should_stop` said so.
        TrainingFailed: the loss or a gradient was not finite.
    """
    return Trainer(config, folder, device or default_device(), checkpoint_seconds).run(report, should_stop, commit)


def make_task(config: TrialConfig) -> Task:
    """The trial's task with its data loaded."""
    return build_task(config.task, config.model, config.data, config.task_options, config.recipe.regularisation)


def divide(total: int, parts: int) -> list[slice]:
    """`total` rows as consecutive runs whose lengths differ by at most one; none is empty."""
    edges = [total * part // parts for part in range(parts + 1)]
    return [slice(low, high) for low, high in itertools.pairwise(edges) if low < high]


class Trainer:
    """One trial in memory: model, optimizer, schedule, and the step that all of them stand at."""

    def __init__(self, config: TrialConfig, folder: Path, device: torch.device, checkpoint_seconds: float) -> None:
        assert config.recipe.precision != "auto", "precision is settled before a trial starts"
        self.config, self.folder, self.device = config, folder, device
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        self.checkpoint_seconds = checkpoint_seconds
        recipe, seed = config.recipe, config.random_seed
        self.task = make_task(config)
        self.steps = recipe.total_steps(self.task.train_size)
        self.sampler = EpochSampler(self.task.train_size, derive(seed, "order"), recipe.batch_size)
        torch.manual_seed(derive(seed, "weights"))
        self.model: nn.Module = self._build_model().to(device)
        self.optimizer = build_optimizer(self.model, recipe)
        self.schedule = build_schedule(self.optimizer, recipe, self.steps)
        self.average = build_average(self.model, recipe)
        self.autocast = functools.partial(
            torch.autocast, device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16"
        )
        self.cost = cost_of_trial(config, len(self.task.classes))
        self.metrics = MetricsFile(folder / "metrics.jsonl")
        self.checkpoint = folder / "checkpoints" / "last.safetensors"
        self.step = 0
        self.seconds = 0.0
        self.test_seconds = 0.0
        self.peak_memory = 0
        self.window: list[float] = []

    def run(self, report: Callable[[Progress], None], should_stop: Callable[[], bool], commit: str) -> dict[str, Any]:
        """From wherever the trial stands to its end; see `train`."""
        write_json(self.folder / "config.json", self.config.model_dump(mode="json"))
        if self.checkpoint.exists():
            self._resume()
        self.metrics.cut_after(self.step if self.step else -1)
        if self.step == 0 and self.config.init is not None:
            self._log_test("init")
        evaluation_steps = self.config.evaluation_steps(self.steps)
        window_size = max(1, self.steps // METRICS_LINES)
        saved = time.monotonic()
        with Ahead(self._batch, last=self.steps, depth=BATCHES_AHEAD if self.task.decodes else 0) as batches:
            while self.step < self.steps:
                started = time.monotonic()
                loss = self._update(batches(self.step))
                self.step += 1
                self.seconds += time.monotonic() - started
                self.window.append(loss)
                if len(self.window) == window_size or self.step == self.steps:
                    self._log_window()
                if self.step in evaluation_steps:
                    self._log_test()
                report(self._progress(loss, evaluation_steps))
                stop = should_stop() and self.step < self.steps
                if stop or time.monotonic() - saved > self.checkpoint_seconds:
                    self._save()
                    saved = time.monotonic()
                if stop:
                    raise Stopped(f"stopped after step {self.step} of {self.steps}")
        return self._finish(commit)

    def _progress(self, loss: float, evaluation_steps: set[int]) -> Progress:
        tests_left = sum(step > self.step for step in evaluation_steps)
        left = self.seconds / self.step * (self.steps - self.step) + self.test_seconds * tests_left
        return Progress(self.step, self.steps, loss, self.seconds, left, self.test_seconds)

    def _build_model(self) -> nn.Module:
        model = self.task.build_model()
        if self.config.init is not None:
            loaded = apply_init(self.task.encoder(model), self.config.init)
            write_text(self.folder / "init.txt", "\n".join([self.config.init.weights, *loaded.lines()]) + "\n")
        return model

    def _batch(self, step: int) -> list[Batch]:
        """The parts of a step's batch; a pure function of the trial's random seed and the step."""
        indices, seed = self.sampler.batch(step), derive(self.config.random_seed, "batch", step)
        return [self.task.batch(indices, seed, rows) for rows in divide(len(indices), self.config.recipe.accumulation)]

    def _update(self, parts: list[Batch]) -> float:
        """One optimiser update; returns the batch's mean loss."""
        recipe = self.config.recipe
        torch.manual_seed(derive(self.config.random_seed, "step", self.step))
        self.schedule.step_update(self.step)
        self.model.train()
        total = 0.0
        for part in parts:
            with self.autocast():
                loss = self.task.loss(self.model, part.to(self.device)) * (len(part) / recipe.batch_size)
            loss.backward()
            total += loss.item()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip_norm or math.inf)
        if not (math.isfinite(total) and torch.isfinite(norm)):
            raise TrainingFailed(
                f"loss {total} and gradient norm {float(norm)} at step {self.step + 1}, samples "
                f"{', '.join(map(str, self.sampler.batch(self.step)[:8].tolist()))}, ...: nothing was updated; "
                "lower the learning rate or use precision float32"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.model, step=self.step)
        return total

    @property
    def _evaluated(self) -> nn.Module:
        return self.model if self.average is None else self.average.module

    @property
    def _samples(self) -> int:
        return self.step * self.config.recipe.batch_size

    def _log_window(self) -> None:
        self.metrics.append(
            kind="train",
            step=self.step,
            samples=self._samples,
            loss=sum(self.window) / len(self.window),
            learning_rate=max(group["lr"] for group in self.optimizer.param_groups),
            seconds=round(self.seconds, 3),
        )
        self.window = []

    def _log_test(self, kind: str = "test") -> None:
        """A line of kind `test`, or `init` for weights that were taken over and not trained yet."""
        started = time.monotonic()
        scores = evaluate(self.task, self._evaluated, self.device, self.autocast)
        self.test_seconds = time.monotonic() - started
        if not math.isfinite(scores["test_loss"]):
            raise TrainingFailed(
                f"test loss {scores['test_loss']} at step {self.step}; lower the learning rate or use precision float32"
            )
        self.peak_memory = max(self.peak_memory, peak_memory_bytes(self.device))
        self.metrics.append(
            kind=kind,
            step=self.step,
            samples=self._samples,
            train_flops=self.cost.flops_train * self._samples,
            seconds=round(self.seconds, 3),
            peak_memory_bytes=self.peak_memory,
            **scores,
        )

    def _save(self) -> None:
        state = {"step": self.step, "seconds": self.seconds, "peak_memory": self.peak_memory, "window": self.window}
        average = None if self.average is None else self.average.module
        save_checkpoint(self.checkpoint, self.model, self.optimizer, average, state)

    def _resume(self) -> None:
        average = None if self.average is None else self.average.module
        state = load_checkpoint(self.checkpoint, self.model, self.optimizer, average)
        self.step, self.seconds = state["step"], state["seconds"]
        self.peak_memory, self.window = state["peak_memory"], state["window"]

    def _finish(self, commit: str) -> dict[str, Any]:
        save_weights(
            self.folder / "weights.safetensors",
            self._evaluated,
            self.config,
            encoder=self.task.encoder(self._evaluated),
            classes=self.task.classes,
            mean=self.task.mean,
            std=self.task.std,
        )
        row = result_row(
            self.config,
            read_metrics(self.metrics.path),
            self.cost,
            seconds=self.seconds,
            peak_memory=self.peak_memory,
            device=describe_device(self.device),
            commit=commit,
        )
        illustrate = getattr(self.task, "illustrate", None)
        if illustrate is not None:
            illustrate(self._evaluated, self.device, self.autocast, self.folder / "predictions")
        write_json(self.folder / "result.json", row)
        self.checkpoint.unlink(missing_ok=True)
        return row
