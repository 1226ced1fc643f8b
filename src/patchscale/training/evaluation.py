"""Evaluation by all processes of a trial: each measures its share of the test samples, every sample counts once."""

from __future__ import annotations

import torch
from torch import nn

from patchscale.tasks import Task
from patchscale.tasks.task import Autocast
from patchscale.training.processes import Processes, divide


@torch.no_grad()
def evaluate_together(
    task: Task, model: nn.Module, device: torch.device, autocast: Autocast, processes: Processes
) -> dict[str, float]:
    """Scores over the whole test set, the same in every process; processes beyond the samples measure nothing."""
    was_training = model.training
    model.eval()
    part = None
    with processes.together():
        shares = divide(task.test_size, processes.size)
        if processes.rank < len(shares):
            part = task.measure(model, device, autocast, torch.arange(task.test_size)[shares[processes.rank]])
    model.train(was_training)
    return task.scores([part for part in processes.collect(part) if part is not None])
