"""What can be known to be wrong with a study before anything is started or written."""

from __future__ import annotations

import torch

from patchscale import models
from patchscale.data import load
from patchscale.errors import InputError
from patchscale.studies.schema import Study
from patchscale.tokens import grid_size
from patchscale.training.costs import cost_of


def check(study: Study) -> None:
    """Builds every different model on torch's meta device, counts its cost, and reads the data.

    Raises:
        InputError: the first thing that does not fit.
    """
    trials = study.trials()
    for trial in trials:
        grid_size(trial.config.model.input_size, trial.config.model.patch_size)
    classes: dict[tuple[int, int], int] = {}
    held: set[bool] = set()
    for trial in trials:
        spec, padding = trial.config.model, trial.config.recipe.augment.crop_padding
        if padding >= min(spec.input_size):
            raise InputError(
                f"recipe.augment.crop_padding {padding} must be smaller than the image, {spec.size} pixels"
            )
        if spec.input_size not in classes:
            load(trial.config.data, split="test", input_size=spec.input_size)
            images = load(trial.config.data, split="train", input_size=spec.input_size)
            classes[spec.input_size] = len(images.classes)
            held.add(images.in_memory)
        with torch.device("meta"):
            models.create(
                spec.name,
                input_size=spec.input_size,
                patch_size=spec.patch_size,
                num_classes=classes[spec.input_size],
                positions=spec.positions,
                drop_path=spec.drop_path,
                **spec.options,
            )
        cost_of(spec, num_classes=classes[spec.input_size])
    if len(held) > 1:
        raise InputError(
            f"data.memory_gib {study.data.memory_gib:g} holds some input sizes in memory and reads others with "
            "random-resized crops, which would be mistaken for an effect; set it to 0, or high enough for all"
        )
