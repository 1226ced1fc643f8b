"""What can be known of a study before anything is started or written: what is wrong with it, and how many classes."""

from __future__ import annotations

import json
from typing import NamedTuple

import torch

from patchscale.data import DataSpec, known_sets
from patchscale.data.boxes import BOX_SETS
from patchscale.data.captions import CAPTION_SETS
from patchscale.data.masks import MASK_SETS
from patchscale.data.spec import SIZED
from patchscale.errors import InputError
from patchscale.studies.schema import Study, Trial
from patchscale.tasks import build_network
from patchscale.tokens import grid_size
from patchscale.training import TrialConfig, make_task
from patchscale.training.costs import cost_of_trial
from patchscale.training.order import check_repetition


class _Data(NamedTuple):
    classes: int
    decodes: bool
    train_size: int


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
            read[kind] = _Data(len(task.classes), task.decodes, task.train_size)
        check_repetition(config, read[kind].train_size)
        with torch.device("meta"):
            build_network(config.task, spec, read[kind].classes, config.task_options)
        cost_of_trial(config, read[kind].classes)
    if len({found.decodes for found in read.values()}) > 1:
        raise InputError(
            f"data.memory_gib {study.data.memory_gib:g} holds some input sizes in memory and reads others with "
            "random-resized crops, which would be mistaken for an effect; set it to 0, or high enough for all"
        )


class AboutData(NamedTuple):
    """Numbers of a trial's data; None for a set that would have to be downloaded first."""

    classes: int | None
    train: int | None
    """Training images."""


def about_data(trial: Trial) -> AboutData:
    """Classes and training images of a trial's data, without decoding an image.

    Raises:
        InputError: a directory that cannot be read, or a size asked of a set that has its own.
    """
    data = trial.config.data
    sets = {"captioning": CAPTION_SETS, "segmentation": MASK_SETS, "detection": BOX_SETS}
    known = sets.get(trial.config.task, {one.name: one for one in known_sets()})
    one = known.get(data.name)
    if one is not None and one.name in SIZED:
        return AboutData(one.classes, data.generated_size("train", one.train))
    if data.name not in MASK_SETS:
        data.refuse_sizes()
    if data.name.startswith("hf:"):
        return AboutData(None, None)
    if one is not None:
        return AboutData(one.classes, min(one.train, data.limit_train or one.train))
    listed = data.model_copy(update={"memory_gib": 0.0})
    task = make_task(trial.config.model_copy(update={"data": listed}))
    return AboutData(len(task.classes), task.train_size)


def images_of(data: DataSpec) -> DataSpec:
    """Equal for data of the same images, in whatever order they are seen."""
    return data.model_copy(update={"repeat_fraction": 0.0, "repeats": 1})


def _kind_of_data(config: TrialConfig) -> str:
    """Equal for trials that read the same images."""
    images = images_of(config.data).model_dump(mode="json")
    return json.dumps([config.task, config.task_options, images, config.model.input_size])
