"""The training loop of one trial: steps, test points, metrics lines, checkpoints; stops and resumes at any step."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from patchscale.errors import InputError
from patchscale.files import remove_leftovers, write_json, write_text
from patchscale.tasks import Task, build_task
from patchscale.training.ahead import Ahead
from patchscale.training.checkpoint import read_checkpoint, write_checkpoint
from patchscale.training.costs import cost_of_trial
from patchscale.training.learner import Learner
from patchscale.training.machine import default_device, describe_device, peak_memory_bytes
from patchscale.training.metrics import MetricsFile, read_metrics
from patchscale.training.outcome import Stopped, TrainingFailed, writing
from patchscale.training.placement import Parallel
from patchscale.training.processes import Processes, join
from patchscale.training.result import result_row
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
    train_size: int
    """Training samples, which give recipes in epochs their steps."""


class Keep(NamedTuple):
    """Which checkpoints stay beside the last one, which serves to resume and goes when the trial is finished."""

    every: int = 0
    """Also keep checkpoints/step-N.safetensors of every so many steps; 0: none."""
    last: bool = False
    """Leave the last one when the trial is finished."""


NOTHING = Keep()


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
    name: str | None = None,
) -> dict[str, Any]:
    """Trains one trial to its end, continuing from its last checkpoint if there is one.

    Under torchrun every process calls this with the same arguments; the first one writes the files.

    Args:
        config: the resolved trial; `precision` must be settled.
        folder: the trial's folder; receives config.json, metrics.jsonl, checkpoints/, weights.safetensors, result.json.
        report: called after every step.
        should_stop: asked after every step; True in any process writes a checkpoint and raises `Stopped` in all.
        device: where to train; this process's GPU if there is one, else the CPU.
        checkpoint_seconds: time between checkpoints; 0 writes one after every step.
        keep: checkpoints to leave behind.
        parallel: with several processes, weights whole in each (`ddp`) or sliced (`fsdp`); the numbers are the same.
        commit: of the code that trains, for the table.
        name: by which a checkpoint is known as this trial's; its id by default.

    Returns:
        The trial's row of the result table.

    Raises:
        InputError: the configuration does not fit the data or the model, or a file cannot be read or written.
        Stopped: `should_stop` said so.
        TrainingFailed: the loss or a gradient was not finite, or another process is gone.
    """
    device = device or default_device()
    with join(device) as processes:
        trainer = Trainer(config, folder, device, processes, checkpoint_seconds, keep, parallel, name)
        return trainer.run(report, should_stop, commit)


def make_task(config: TrialConfig) -> Task:
    """The trial's task with its data loaded."""
    return build_task(config.task, config.model, config.data, config.task_options, config.recipe.regularisation)


class Trainer:
    """One trial in its folder: a learner, and the step that it stands at; arguments as those of `train`."""

    def __init__(
        self,
        config: TrialConfig,
        folder: Path,
        device: torch.device,
        processes: Processes,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
        keep: Keep = NOTHING,
        parallel: Parallel = "ddp",
        name: str | None = None,
    ) -> None:
        assert config.recipe.precision != "auto", "precision is settled before a trial starts"
        self.config, self.folder, self.device, self.processes = config, folder, device, processes
        self.checkpoint_seconds, self.keep = checkpoint_seconds, keep
        self.name = name or config.trial_id
        with processes.together():
            self.task = make_task(config)
        with processes.together(), writing(folder):
            (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        self.learner = Learner(config, self.task, device, processes, parallel)
        self.steps = self.learner.steps
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
        self._begin()
        if self.step == 0 and self.config.init is not None:
            self._log_test("init")
        evaluation_steps = self.config.evaluation_steps(self.steps)
        window_size = max(1, self.steps // METRICS_LINES)
        saved = time.monotonic()
        depth = BATCHES_AHEAD if self.task.decodes or self.device.type == "cuda" else 0
        with Ahead(self.learner.batch, last=self.steps, depth=depth) as batches:
            while self.step < self.steps:
                started = time.monotonic()
                with self.processes.together():
                    parts = batches(self.step)
                loss = self.learner.update(self.step, parts)
                self.step += 1
                self.seconds += time.monotonic() - started
                self.window.append(loss)
                if len(self.window) == window_size or self.step == self.steps:
                    self._log_window()
                if self.step in evaluation_steps:
                    self._log_test()
                report(self._progress(loss, evaluation_steps))
                late = self.processes.first and time.monotonic() - saved > self.checkpoint_seconds
                stop, late = self.processes.vote(should_stop() and self.step < self.steps, late)
                if stop or late or self._is_kept:
                    self._save()
                    saved = time.monotonic()
                if stop:
                    raise Stopped(f"stopped after step {self.step} of {self.steps}")
        return self._finish(commit)

    def _begin(self) -> None:
        """Takes up the last checkpoint, in every process, and cuts the record back to it."""
        with self._writes() as writes:
            if writes:
                remove_leftovers(self.folder, self.folder / "checkpoints")
                write_json(self.folder / "config.json", self.config.model_dump(mode="json"))
                if self.learner.taken_over:
                    write_text(self.folder / "init.txt", "\n".join(self.learner.taken_over) + "\n")
            if self.checkpoint.exists():
                tensors, state = read_checkpoint(self.checkpoint, self.name)
                self._check_data(state["data"])
                self.learner.restore(tensors)
                self.step, self.seconds = state["step"], state["seconds"]
                self.peak_memory, self.window = state["peak_memory"], state["window"]
            if writes:
                self.metrics.cut_after(self.step if self.step else -1)
        steps = self.processes.collect(self.step)
        if len(set(steps)) > 1:
            with self.processes.together():
                raise InputError(f"processes read {self.checkpoint} at steps {steps}; put it on a disk they share")

    @property
    def _data(self) -> dict[str, int]:
        return {"training": self.task.train_size, "test": self.task.test_size}

    def _check_data(self, before: dict[str, int]) -> None:
        for kind, size in self._data.items():
            if size != before[kind]:
                raise InputError(
                    f"{self.config.data.name} now holds {size} {kind} samples, not the {before[kind]} that this trial "
                    f"began with; bring them back, or delete {self.checkpoint} to start the trial again"
                )

    @contextlib.contextmanager
    def _writes(self) -> Iterator[bool]:
        """A block in which the first process writes files; what goes wrong there goes wrong everywhere."""
        with self.processes.together(), writing(self.folder):
            yield self.processes.first

    def _progress(self, loss: float, evaluation_steps: set[int]) -> Progress:
        tests_left = sum(step > self.step for step in evaluation_steps)
        left = self.seconds / self.step * (self.steps - self.step) + self.test_seconds * tests_left
        return Progress(self.step, self.steps, loss, self.seconds, left, self.test_seconds, self.task.train_size)

    @property
    def _samples(self) -> int:
        return self.step * self.config.recipe.batch_size

    @property
    def _is_kept(self) -> bool:
        return self.keep.every > 0 and self.step % self.keep.every == 0

    def _log_window(self) -> None:
        with self._writes() as writes:
            if writes:
                self.metrics.append(
                    kind="train",
                    step=self.step,
                    samples=self._samples,
                    loss=sum(self.window) / len(self.window),
                    learning_rate=self.learner.learning_rate,
                    seconds=round(self.seconds, 3),
                )
        self.window = []

    def _log_test(self, kind: str = "test") -> None:
        """A line of kind `test`, or `init` for weights that were taken over and not trained yet."""
        started = time.monotonic()
        scores = self.learner.scores()
        self.test_seconds = time.monotonic() - started
        if not math.isfinite(scores["test_loss"]):
            with self.processes.together():
                raise TrainingFailed(
                    f"test loss {scores['test_loss']} at step {self.step}; "
                    "lower the learning rate or use precision float32"
                )
        self.peak_memory = self.processes.largest(max(self.peak_memory, peak_memory_bytes(self.device)))
        with self._writes() as writes:
            if writes:
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
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "peak_memory": self.peak_memory,
            "window": self.window,
            "data": self._data,
        }
        tensors = self.learner.tensors()
        with self._writes() as writes:
            if writes:
                if self._is_kept:
                    kept = self.checkpoint.with_name(f"step-{self.step}.safetensors")
                    write_checkpoint(kept, tensors, self.name, state)
                write_checkpoint(self.checkpoint, tensors, self.name, state)

    def _finish(self, commit: str) -> dict[str, Any]:
        if self.keep.last:
            self._save()
        row: dict[str, Any] = {}
        with self.learner.placement.evaluated() as model, self._writes() as writes:
            if writes:
                row = self._write_result(model, commit)
        if self.processes.first and not self.keep.last:
            self.checkpoint.unlink(missing_ok=True)
        return self.processes.share(row)

    def _write_result(self, model: nn.Module, commit: str) -> dict[str, Any]:
        save_weights(
            self.folder / "weights.safetensors",
            model,
            self.config,
            encoder=self.task.encoder(model),
            classes=self.task.classes,
            mean=self.task.mean,
            std=self.task.std,
        )
        illustrate = getattr(self.task, "illustrate", None)
        if illustrate is not None:
            illustrate(model, self.device, self.learner.autocast, self.folder / "predictions")
        row = result_row(
            self.config,
            read_metrics(self.metrics.path),
            self.cost,
            seconds=self.seconds,
            peak_memory=self.peak_memory,
            device=describe_device(self.device, self.processes.size),
            commit=commit,
        )
        write_json(self.folder / "result.json", row)
        return row
