"""Which samples a trial's steps see."""

from __future__ import annotations

from patchscale.data import EpochSampler, RepeatSampler, subset_size
from patchscale.errors import InputError
from patchscale.training.seeding import derive
from patchscale.training.trial import TrialConfig


def build_sampler(config: TrialConfig, train_size: int) -> EpochSampler | RepeatSampler:
    """The sampler of a trial whose data have `train_size` training samples.

    Raises:
        InputError: as `check_repetition`.
    """
    data, recipe, seed = config.data, config.recipe, derive(config.random_seed, "order")
    if not data.repeat_fraction:
        return EpochSampler(train_size, seed, recipe.batch_size, recipe.augment_repeats)
    check_repetition(config, train_size)
    steps = recipe.total_steps(train_size)
    return RepeatSampler(train_size, seed, recipe.batch_size, steps, data.repeat_fraction, data.repeats)


def check_repetition(config: TrialConfig, train_size: int) -> None:
    """Whether the repetition that a trial asks for can be had, told without drawing anything.

    Raises:
        InputError: there are too few samples, or the recipe repeats every image already.
    """
    data, recipe = config.data, config.recipe
    if not data.repeat_fraction:
        return
    if recipe.augment_repeats > 1:
        raise InputError(
            f"augment_repeats {recipe.augment_repeats} would repeat what repeat_fraction wants seen once; set it to 1"
        )
    subset_size(train_size, recipe.total_steps(train_size) * recipe.batch_size, data.repeat_fraction, data.repeats)
