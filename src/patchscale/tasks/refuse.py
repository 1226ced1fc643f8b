"""Not all of a recipe is for every task: what moves pixels would put masks, boxes and answers wrong."""

from __future__ import annotations

from collections.abc import Collection

from patchscale.errors import InputError
from patchscale.tasks.task import Regularisation


def refuse_unfit(
    regularisation: Regularisation, task: str, *, augment: Collection[str], label_smoothing: bool = False
) -> None:
    """Lets through what a task can take.

    Args:
        regularisation: of a trial's recipe.
        task: its name.
        augment: fields of `Augment` that suit it; no task that asks takes mixed images.
        label_smoothing: whether that suits it.

    Raises:
        InputError: something else is set; names the first.
    """
    asked, mixing, smoothing = regularisation
    standard = type(asked)()
    changed = {name for name, value in asked if value != getattr(standard, name)}
    if unfit := sorted(changed - set(augment)):
        raise InputError(f"recipe.augment.{unfit[0]} is not for {task}, which takes {', '.join(sorted(augment))}")
    if mixing.active:
        raise InputError(f"recipe.mixing is not for {task}; leave it out")
    if smoothing and not label_smoothing:
        raise InputError(f"recipe.label_smoothing is not for {task}; leave it out")
