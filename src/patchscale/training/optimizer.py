"""AdamW, its parameter groups, the schedule and the average of weights, from a recipe, with timm's parts."""

from __future__ import annotations

import torch
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import nn

from patchscale.errors import InputError
from patchscale.training.recipe import Recipe


def build_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    """AdamW with decay on matrices only, and a learning rate per block where the recipe has `layer_decay`."""
    named = getattr(model, "no_weight_decay", None)
    exempt = named() if named else set()
    if recipe.layer_decay is None:
        groups = param_groups_weight_decay(model, recipe.weight_decay, no_weight_decay_list=exempt)
    else:
        groups = param_groups_layer_decay(
            model, recipe.weight_decay, no_weight_decay_list=exempt, layer_decay=recipe.layer_decay
        )
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=recipe.betas, fused=True)


def build_schedule(
    optimizer: torch.optim.Optimizer, recipe: Recipe, steps: int, warmup_steps: int
) -> CosineLRScheduler:
    """Linear warm-up, then a cosine to `final_learning_rate`; a pure function of the step, so nothing to restore.

    Raises:
        InputError: the warm-up leaves nothing of the steps.
    """
    if warmup_steps >= steps:
        raise InputError(f"{warmup_steps} warm-up steps leave nothing of {steps} steps; lower recipe.warmup_steps")
    return CosineLRScheduler(
        optimizer,
        t_initial=max(1, steps - warmup_steps),
        lr_min=recipe.final_learning_rate,
        warmup_t=warmup_steps,
        warmup_lr_init=recipe.learning_rate / max(1, warmup_steps),
        warmup_prefix=True,
        t_in_epochs=False,
    )


def build_average(model: nn.Module, recipe: Recipe) -> ModelEmaV3 | None:
    """The exponential moving average of the weights, or none; its decay grows as 1 - 1 / step to the recipe's."""
    if recipe.ema_decay is None:
        return None
    return ModelEmaV3(model, decay=recipe.ema_decay, use_warmup=True, warmup_power=1.0)
