"""What a trial takes, told before it has run: steps, work and test points of each of its trainings, in order."""

from __future__ import annotations

from typing import NamedTuple

from patchscale.training.costs import cost_of_trial
from patchscale.training.trial import TrialConfig


class Length(NamedTuple):
    """One of a trial's trainings: a stage, or its own."""

    steps: int
    batch_size: int
    flops: float
    """Of training on one image, near enough to compare trainings."""
    points: set[int]
    """Steps after which the test set is evaluated."""

    @property
    def work(self) -> float:
        """Training FLOPs of a step."""
        return self.flops * self.batch_size


def lengths(config: TrialConfig, train_size: int) -> list[Length]:
    """Of a trial's trainings, the last its own; `train_size` samples give recipes in epochs their steps."""
    found = []
    for one in config.plain():
        steps = one.recipe.total_steps(train_size)
        flops = cost_of_trial(one, num_classes=100).flops_train
        found.append(Length(steps, one.recipe.batch_size, flops, one.evaluation_steps(steps)))
    return found
