"""A study from its description to its numbers: settle what must be measured, run the trials, fit the laws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from patchscale.data import load
from patchscale.studies.analysis import analyse
from patchscale.studies.estimate_time import work
from patchscale.studies.local import LocalLauncher, Sharing
from patchscale.studies.provenance import provenance
from patchscale.studies.run_directory import RunDirectory
from patchscale.studies.schema import Study, Trial
from patchscale.tokens import grid_size
from patchscale.training import default_device, describe_device
from patchscale.training.precision import fastest_precision


@dataclass(frozen=True)
class Outcome:
    """What a run of a study has come to."""

    run: RunDirectory
    study: Study
    laws: dict[str, Any] | None
    """The content of laws.json; none if no trial finished."""
    failed: dict[str, str]
    """Reasons by trial id."""


def run(
    study: Study,
    out: Path,
    *,
    workers: int | None = None,
    say: Callable[[str], None] = lambda line: None,
    watch: Callable[[RunDirectory, list[Trial], set[str], int], None] = lambda *_: None,
) -> Outcome:
    """Runs what is not finished yet, then writes results.csv and laws.json.

    Args:
        study: the study; the same study in the same folder continues where it stands.
        out: the run directory, made if missing.
        workers: trials at a time; one per GPU or per core by default.
        say: receives a line for each decision.
        watch: called several times a second with the run, its trials, the ids now running, and the workers.

    Raises:
        InputError: data, model or folder do not fit; nothing has been started then.
    """
    check(study)
    directory = RunDirectory(Path(out))
    directory.create()
    study, about = _prepare(directory, study, workers, say)
    trials = in_running_order(study.trials())
    sharing = Sharing(**about["sharing"])
    LocalLauncher(directory, sharing, lambda ids: watch(directory, trials, ids, sharing.workers)).launch(trials)
    failed = {trial.id: reason for trial in trials if (reason := directory.failure(trial.id))}
    finished = any(directory.result(trial.id) for trial in trials)
    return Outcome(directory, study, analyse(directory) if finished else None, failed)


def check(study: Study) -> None:
    """Builds every different model on torch's meta device and reads the data, so that mistakes show at once.

    Raises:
        InputError: the first thing that does not fit.
    """
    from patchscale import models

    trials = study.trials()
    for trial in trials:
        grid_size(trial.config.model.input_size, trial.config.model.patch_size)
    sizes = {}
    for trial in trials:
        spec = trial.config.model
        if spec.input_size not in sizes:
            for split in ("test", "train"):
                images = load(trial.config.data, split=split, input_size=spec.input_size)
            sizes[spec.input_size] = len(images.classes)
        with torch.device("meta"):
            models.create(
                spec.name,
                input_size=spec.input_size,
                patch_size=spec.patch_size,
                num_classes=sizes[spec.input_size],
                positions=spec.positions,
                drop_path=spec.drop_path,
                **spec.options,
            )


def in_running_order(trials: list[Trial]) -> list[Trial]:
    """Random seed by random seed, so that a whole set stands early; longest first, so that workers end together."""
    return sorted(trials, key=lambda trial: (trial.config.random_seed, -work(trial)))


def _prepare(
    directory: RunDirectory, study: Study, workers: int | None, say: Callable[[str], None]
) -> tuple[Study, dict[str, Any]]:
    """Settles precision and sharing, or takes what an earlier start settled; writes study.yaml."""
    before, about = directory.read_study() if directory.study_file.exists() else (None, {})
    if study.recipe.precision == "auto":
        if before is not None:
            precision = before.recipe.precision
        else:
            specs = [trial.config.model for trial in study.trials()]
            precision = fastest_precision(specs, default_device(), say=say)
        study = study.model_copy(update={"recipe": study.recipe.model_copy(update={"precision": precision})})
    trials = study.trials()
    if before is not None:
        done = sum(directory.result(trial.id) is not None for trial in trials)
        say(f"continuing {directory.path}: {done} of {len(trials)} trials are finished")
    sharing = Sharing.of(len(trials), workers=workers, gpus=torch.cuda.device_count())
    if before is not None and workers is None:
        sharing = Sharing(**about["sharing"])
    if before != study or about.get("sharing") != vars(sharing):
        about = {"sharing": vars(sharing), "provenance": provenance(describe_device(default_device()))}
        directory.write_study(study, about)
    return study, about
