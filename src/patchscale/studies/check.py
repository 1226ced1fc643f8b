"""What can be known of a study before anything is started or written: what is wrong with it, and how many classes."""

from __future__ import annotations

import json
from typing import NamedTuple

import torch

from patchscale.data import known_sets
from patchscale.data.boxes import BOX_SETS
from patchscale.data.captions import CAPTION_SETS
from patchscale.data.masks import MASK_SETS
from patchscale.errors import InputError
from patchscale.studies.schema import Study, Trial
from patchscale.tasks import build_network
from patchscale.tokens import grid_size
from patchscale.training import TrialConfig, make_task
from patchscale.training.costs import cost_of_trial


class _Data(NamedTuple):
    classes: int
    decodes: bool


def check(study: Study) -> None:
    """Builds every different model on torch's meta device, counts its cost, and reads the data.

    Raises:
        InputError: the first thing that does not fit.
    """
    configs = [config for trial in study.trials() for config in trial.config.plain()]
    for config in configs:
        grid_size(config.model.input_size, config.model.patch_size)
    read: dict[str, _Data] = {}
    for config in configs:
        spec, padding = config.model, config.recipe.augment.crop_padding
        if padding >= min(spec.input_size):
            raise InputError(
                f"recipe.augment.crop_padding {padding} must be smaller than the image, {spec.size} pixels"
            )
        kind = _kind_of_data(config)
        if kind not in read:
            task = make_task(config)
            read[kind] = _Data(len(task.classes), task.decodes)
        with torch.device("meta"):
            build_network(config.task, spec, read[kind].classes, config.task_options)
        cost_of_trial(config, read[kind].classes)
    if len({found.decodes for found in read.values()}) > 1:
        raise InputError(
            f"data.memory_gib {study.data.memory_gib:g} holds some input sizes in memory and reads others with "
            "random-resized crops, which would be mistaken for an effect; set it to 0, or high enough for all"
        )


def count_classes(trial: Trial) -> int | None:
    """Classes of a trial's data without decoding an image; none for a set that would have to be downloaded first.

    Raises:
        InputError: a directory that cannot be read.
    """
    data = trial.config.data
    if data.name.startswith("hf:"):
        return None
    sets = {"captioning": CAPTION_SETS, "segmentation": MASK_SETS, "detection": BOX_SETS}
    known = sets.get(trial.config.task, {one.name: one for one in known_sets()})
    if data.name in known:
        return known[data.name].classes
    listed = data.model_copy(update={"memory_gib": 0.0})
    return len(make_task(trial.config.model_copy(update={"data": listed})).classes)


def _kind_of_data(config: TrialConfig) -> str:
    """Equal for trials that read the same images."""
    return json.dumps([config.task, config.task_options, config.data.model_dump(mode="json"), config.model.input_size])
