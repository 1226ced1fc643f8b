"""What a study costs before it is run, and studies of nothing but cost: counted from shapes, predicted for a device."""

from __future__ import annotations

from typing import Any

from patchscale.cost import Cost, Device, activation_memory, device_of, model_flops_hours
from patchscale.data import DataSpec
from patchscale.files import write_json
from patchscale.studies.check import AboutData, about_data, images_of
from patchscale.studies.provenance import commit
from patchscale.studies.run_directory import RunDirectory
from patchscale.studies.schema import Study, Trial
from patchscale.training import TrialConfig
from patchscale.training.costs import cost_of_trial
from patchscale.training.order import check_repetition

UNKNOWN_CLASSES = 1000
"""Rows of the head where the data's classes cannot be known without loading it."""


def count_study(run: RunDirectory, study: Study) -> None:
    """Leaves every trial's configuration and counted row in the run directory of a study that trains nothing."""
    assert study.counting is not None
    device = device_of(study.counting.device)
    for trial in study.trials():
        folder = run.trial_folder(trial.id)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "config.json", trial.config.model_dump(mode="json"))
        write_json(folder / "result.json", counted_row(trial, device))


def counted_row(trial: Trial, device: Device) -> dict[str, Any]:
    """The row of a trial that is counted and not trained.

    `memory_bytes_per_image` is what autograd keeps of one training image, weights and optimiser excluded;
    `device_hours_per_epoch` one pass over the training images, hours times devices.
    """
    config, data = trial.config, about_data(trial)
    cost = cost_of_trial(config, data.classes or UNKNOWN_CLASSES)
    hours = None if data.train is None else model_flops_hours(cost, device, data.train, precision=device.precision)
    return {
        "trial": trial.id,
        "task": config.task,
        "data": config.data.name,
        "model": config.model.name,
        "patch_size": config.model.patch_size,
        "input_size": config.model.size,
        "tokens": cost.tokens,
        "random_seed": config.random_seed,
        "params": cost.params,
        "params_without_positions": cost.params_without_positions,
        "flops_per_image": cost.flops_forward,
        "memory_bytes_per_image": activation_memory(cost, precision=device.precision, cpu=device.is_cpu).kept,
        "device_hours_per_epoch": hours,
        "precision": device.precision,
        "device": f"{device.title}, predicted",
        "commit": commit(),
    }


def planned(study: Study, device: str = "a100") -> tuple[list[dict[str, Any]], AboutData]:
    """A dry run: one row a trial, and what is known of the first trial's data.

    Returns:
        Rows with trial, axes, tokens, params, length, flops_per_image, memory_bytes_per_image, train_flops and
        device_hours (hours times devices, predicted for `device`; both None where the number of samples is unknown).

    Raises:
        InputError: data that `about_data` refuses, or that repeat in a way that they are too few for.
    """
    trials = study.trials()
    where, rows = device_of(device), []
    known: dict[DataSpec, AboutData] = {}
    for trial in trials:
        config, recipe = trial.config, trial.config.recipe
        images = images_of(config.data)
        if images not in known:
            known[images] = about_data(trial)
        data = known[images]
        if data.train is not None:
            check_repetition(config, data.train)
        cost = cost_of_trial(config, data.classes or UNKNOWN_CLASSES)
        flops = _train_flops(config, cost, data)
        length = f"{recipe.steps} steps" if recipe.steps else f"{recipe.epochs:g} epochs"
        rows.append({"trial": trial.id, **trial.axes, "tokens": cost.tokens, "params": cost.params, "length": length})
        rows[-1] |= {
            "flops_per_image": cost.flops_forward,
            "memory_bytes_per_image": activation_memory(cost, precision=where.precision).kept,
            "train_flops": flops,
            "device_hours": flops and model_flops_hours(cost, where, flops / cost.flops_train),
        }
    return rows, next(iter(known.values()))


def _train_flops(config: TrialConfig, cost: Cost, data: AboutData) -> int | None:
    """Training FLOPs of the trial's own stage."""
    recipe = config.recipe
    if recipe.steps is None and data.train is None:
        return None
    return recipe.total_steps(data.train or 0) * recipe.batch_size * cost.flops_train
