"""What training changes: the model, its optimizer and average; one update of them, by one process or by several.

The global batch of a step is divided into processes x accumulation parts, of which each process takes `accumulation`
in a row; losses and gradients are weighted by their share of the batch and added up, so that neither number changes
what is trained beyond rounding.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from patchscale.data import RepeatSampler
from patchscale.errors import InputError
from patchscale.tasks import Batch, Task
from patchscale.training.checkpoint import collect_tensors, restore
from patchscale.training.drop_path import StochasticDepth
from patchscale.training.evaluation import evaluate_together
from patchscale.training.init import apply_init
from patchscale.training.memorisation import Memorisation
from patchscale.training.optimizer import build_average, build_optimizer, build_schedule
from patchscale.training.order import build_sampler
from patchscale.training.outcome import TrainingFailed
from patchscale.training.placement import Parallel, place, whole
from patchscale.training.processes import Processes, divide
from patchscale.training.seeding import derive
from patchscale.training.trial import TrialConfig

NAMED_SAMPLES = 8


class Learner:
    """One trial's weights in training.

    Args:
        config: the resolved trial.
        task: with its data loaded.
        device: of this process.
        processes: those that train this trial.
        parallel: where the weights lie if there are several.

    Raises:
        InputError: the batch has too few samples for so many parts, or recipe, weights or repetition do not fit.
    """

    def __init__(
        self, config: TrialConfig, task: Task, device: torch.device, processes: Processes, parallel: Parallel
    ) -> None:
        recipe, seed = config.recipe, config.random_seed
        self.config, self.task, self.device, self.processes = config, task, device, processes
        self.steps = recipe.total_steps(task.train_size)
        with processes.together():
            self.sampler = build_sampler(config, task.train_size)
            self.memorisation = Memorisation(config, self.sampler) if isinstance(self.sampler, RepeatSampler) else None
        self.divisions = divide(recipe.batch_size, processes.size * recipe.accumulation)
        self.first_part = processes.rank * recipe.accumulation
        self.own_rows = self.divisions[self.first_part : self.first_part + recipe.accumulation]
        self.autocast = functools.partial(
            torch.autocast, device.type, dtype=torch.bfloat16, enabled=recipe.precision == "bfloat16"
        )
        with processes.together():
            self._check_division()
            torch.manual_seed(derive(seed, "weights"))
            self.model = task.build_model()
            self.taken_over: list[str] = []
            if config.init is not None:
                part = self.model if config.init.part == "model" else task.encoder(self.model)
                self.taken_over = [config.init.weights, *apply_init(part, config.init).lines()]
            if recipe.recompute:
                owners = [
                    one for one in (self.model, task.encoder(self.model)) if hasattr(one, "set_grad_checkpointing")
                ]
                cast(Any, owners[0]).set_grad_checkpointing()
            self.depth = StochasticDepth(self.model)
            self.model.to(device)
            self.average = build_average(self.model, recipe)
            self.averaged = None if self.average is None else self.average.module
        self.placement = place(parallel, task, self.model, self.averaged, device, processes)
        with processes.together():
            self.optimizer = build_optimizer(self.model, recipe)
            self.schedule = build_schedule(
                self.optimizer, recipe, self.steps, recipe.total_warmup_steps(task.train_size)
            )

    def _check_division(self) -> None:
        recipe, size = self.config.recipe, self.processes.size
        if size > 1 and len(self.divisions) < size * recipe.accumulation:
            raise InputError(
                f"batch_size {recipe.batch_size} is too small for {size} processes with accumulation "
                f"{recipe.accumulation}; start fewer processes"
            )

    @property
    def learning_rate(self) -> float:
        """The largest one, of the last update."""
        return max(group["lr"] for group in self.optimizer.param_groups)

    def batch(self, step: int) -> list[Batch]:
        """This process's parts of a step's batch; a pure function of the trial's random seed and the step."""
        indices, seed = self.sampler.batch(step), derive(self.config.random_seed, "batch", step)
        parts = [self.task.batch(indices, seed, rows) for rows in self.own_rows]
        return [part.pinned() for part in parts] if self.device.type == "cuda" else parts

    def update(self, step: int, parts: list[Batch]) -> float:
        """One optimiser update; returns the batch's mean loss, the same in every process.

        Raises:
            TrainingFailed: in every process, if a loss or the gradient is not finite anywhere; nothing is updated.
        """
        recipe, seed = self.config.recipe, self.config.random_seed
        own = () if self.processes.first else ("process", self.processes.rank)
        torch.manual_seed(derive(seed, "step", step, *own))
        self.schedule.step_update(step)
        self.model.train()
        losses = torch.zeros(len(self.divisions), device=self.device)
        for number, part in enumerate(parts):
            self.depth.draw(derive(seed, "depth", step), recipe.batch_size, self.own_rows[number], self.device)
            with self.placement.summing(number == len(parts) - 1):
                with self.autocast():
                    loss = self.placement.loss(part.to(self.device)) * (len(part) / recipe.batch_size)
                loss.backward()
            losses[self.first_part + number] = loss.detach()
        norm = whole(nn.utils.clip_grad_norm_(self.model.parameters(), recipe.clip_norm or math.inf))
        *found, norm = torch.cat([self.processes.add(losses), norm[None]]).tolist()
        if not all(map(math.isfinite, [*found, norm])):
            with self.processes.together():
                raise TrainingFailed(self._blame(step, found, norm))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update(self.model, step=step)
        return sum(found)

    def scores(self) -> dict[str, float]:
        """Of the whole test set, divided among the processes; averaged weights if the recipe has an average.

        Where a subset is repeated, also what the model remembers of it.

        Raises:
            TrainingFailed: in every process, if the test loss is not finite.
        """
        with self.placement.evaluated() as model:
            found = evaluate_together(self.task, model, self.device, self.autocast, self.processes)
            if self.memorisation is not None:
                found |= self.memorisation.scores(model, self.device, self.autocast)
            return found

    def tensors(self) -> dict[str, Tensor]:
        """Everything that `restore` needs, in the first process; all must ask."""
        return collect_tensors(self.model, self.optimizer, self.averaged, keep=self.processes.first)

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Puts back what `tensors` gave, whatever the number of processes was then."""
        restore(tensors, self.model, self.optimizer, self.averaged)

    def _blame(self, step: int, losses: list[float], norm: float) -> str:
        bad = [rows for rows, loss in zip(self.divisions, losses, strict=True) if not math.isfinite(loss)]
        indices = self.sampler.batch(step)
        samples = torch.cat([indices[rows] for rows in bad or self.divisions]).tolist()
        more = ", ..." if len(samples) > NAMED_SAMPLES else ""
        return (
            f"loss {sum(losses)} and gradient norm {norm} at step {step + 1}, samples "
            f"{', '.join(map(str, samples[:NAMED_SAMPLES]))}{more}: nothing was updated; "
            "lower the learning rate or use precision float32"
        )
