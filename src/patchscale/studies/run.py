"""A study from its description to its numbers: settle what must be measured, run the trials, fit the laws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from patchscale.errors import InputError
from patchscale.studies.analysis import analyse
from patchscale.studies.check import check
from patchscale.studies.counting import count_study
from patchscale.studies.estimate_time import work
from patchscale.studies.local import LocalLauncher, Sharing
from patchscale.studies.provenance import provenance
from patchscale.studies.reuse import runs_among, take_over
from patchscale.studies.run_directory import RunDirectory
from patchscale.studies.schema import Study, Trial
from patchscale.studies.settle import settled
from patchscale.studies.slurm.launcher import SlurmLauncher
from patchscale.studies.slurm.options import SlurmOptions, require_slurm
from patchscale.studies.trackers import check_trackers, mirrored
from patchscale.training import default_device, describe_device
from patchscale.training.outcome import writing
from patchscale.training.precision import fastest_precision


@dataclass(frozen=True)
class Outcome:
    """What a run of a study has come to."""

    run: RunDirectory
    study: Study
    laws: dict[str, Any] | None
    """The content of laws.json; none if no trial finished."""
    failed: dict[str, str]
    """Reasons by trial id; a trial whose job was cancelled is one of them."""


def run(
    study: Study,
    out: Path,
    *,
    workers: int | None = None,
    slurm: SlurmOptions | None = None,
    trackers: Sequence[str] = (),
    reuse: Sequence[Path] = (),
    say: Callable[[str], None] = lambda line: None,
    watch: Callable[[RunDirectory, list[Trial], set[str], int, str], None] = lambda *_: None,
) -> Outcome:
    """Runs what is not finished yet, then writes results.csv and laws.json.

    Args:
        study: the study; the same study in the same folder continues where it stands.
        out: the run directory, made if missing.
        workers: trials at a time; one per GPU or per core by default, as many as Slurm will on a cluster.
        slurm: sends trials to Slurm, with these resources each; otherwise they share this machine.
        trackers: names of trackers that get a copy of the metrics.
        reuse: run directories, or folders of them, whose finished trials are taken over where this study has them.
        say: receives a line for each decision.
        watch: called every second or oftener with the run, its trials, the ids now running, the workers, and a few
            words on what waits.

    Raises:
        InputError: data, model or folder do not fit, or Slurm is not there; nothing has been started then.
        KeyboardInterrupt: work was stopped and saved; on Slurm it goes on, only the watching ends.
    """
    others = runs_among(reuse)
    if study.counting is not None:
        return _count(study, RunDirectory(Path(out)), say)
    check_trackers(trackers)
    if slurm is not None:
        require_slurm()
    study = settled(study)
    say(f"checking {len(study.trials())} trials and reading {study.data.name}")
    check(study)
    directory = RunDirectory(Path(out))
    directory.create()
    with directory.hold_study():
        study, sharing = _prepare(directory, study, workers, slurm, say)
    trials = in_running_order(study.trials())
    if others:
        taken = take_over(directory, trials, others)
        places = ", ".join(sorted({str(path) for path in taken.values()}))
        say(f"{len(taken)} trials taken from {places}" if taken else "no trial to take over from --reuse")

    def show(running: set[str], waiting: str = "") -> None:
        watch(directory, trials, running, sharing.workers, waiting)

    if slurm is None:
        launcher = LocalLauncher(directory, sharing, show)
    else:
        launcher = SlurmLauncher(directory, slurm, sharing.workers, say, show)
    with mirrored(directory.path, trackers, say):
        launcher.launch(trials)
    standings = {trial.id: directory.standing(trial) for trial in trials}
    failed = {
        trial_id: standing.detail if standing.state == "failed" else f"{standing.state} {standing.detail}".strip()
        for trial_id, standing in standings.items()
        if standing.state != "done"
    }
    finished = any(directory.result(trial.id) for trial in trials)
    return Outcome(directory, study, analyse(directory) if finished else None, failed)


def _count(study: Study, directory: RunDirectory, say: Callable[[str], None]) -> Outcome:
    """A study that trains nothing: rows counted from shapes, and laws of them."""
    assert study.counting is not None
    say(f"counting {len(study.trials())} trials from their shapes; nothing is trained")
    directory.create()
    with directory.hold_study():
        _stored(directory, study)
        about = {"launcher": "local", "sharing": vars(Sharing(workers=1, threads=1))}
        directory.write_study(study, {**about, "provenance": provenance(f"predicted for {study.counting.device}")})
        with writing(directory.path):
            count_study(directory, study)
    return Outcome(directory, study, analyse(directory), {})


def _stored(directory: RunDirectory, study: Study) -> tuple[Study | None, dict[str, Any]]:
    """What an earlier start left in the folder.

    Raises:
        InputError: rows that are counted from shapes and rows that are trained have the same ids, and one kind would
            take the place of the other.
    """
    if not directory.study_file.exists():
        return None, {}
    before, about = directory.read_study()
    if (before.counting is None) != (study.counting is None):
        has = "trained" if before.counting is None else "only counted"
        raise InputError(f"{directory.path} holds a study whose trials are {has}; choose another --out")
    return before, about


def in_running_order(trials: list[Trial]) -> list[Trial]:
    """Random seed by random seed, so that a whole set stands early; longest first, so that workers end together."""
    return sorted(trials, key=lambda trial: (trial.config.random_seed, -work(trial)))


def _prepare(
    directory: RunDirectory,
    study: Study,
    workers: int | None,
    slurm: SlurmOptions | None,
    say: Callable[[str], None],
) -> tuple[Study, Sharing]:
    """Settles precision and sharing, or takes what an earlier start settled; writes study.yaml."""
    before, about = _stored(directory, study)
    if before is not None and before.data != study.data:
        raise InputError(f"{directory.path} holds a study of {before.data.name} with other data; choose another --out")
    if slurm is None:
        gpus = torch.cuda.device_count()
        sharing = Sharing.of(len(study.trials()), workers=workers, gpus=gpus)
        local = before is not None and about.get("launcher", "local") == "local"
        if local and workers is None and about["sharing"]["gpus"] == gpus:
            sharing = Sharing(**about["sharing"])
        device = describe_device(default_device())
    else:
        sharing = Sharing(workers or len(study.trials()), threads=slurm.cpus, gpus=slurm.nodes * slurm.gpus)
        device = f"Slurm jobs: {slurm.model_dump_json(exclude_defaults=True)}"
    if study.recipe.precision == "auto":
        precision = before.recipe.precision if before else _choose_precision(study, sharing, slurm, say)
        study = study.model_copy(update={"recipe": study.recipe.model_copy(update={"precision": precision})})
    trials = study.trials()
    if before is not None:
        changed = [name for name in type(study).model_fields if getattr(before, name) != getattr(study, name)]
        done = sum(directory.result(trial.id) is not None for trial in trials)
        note = f"; {', '.join(changed)} changed, and trials outside the new grid leave the table" if changed else ""
        say(f"continuing {directory.path}: {done} of {len(trials)} trials are finished{note}")
    how = {"launcher": "local" if slurm is None else "slurm", "sharing": vars(sharing)}
    if before != study or {name: about.get(name) for name in how} != how:
        directory.write_study(study, {**how, "provenance": provenance(device)})
    return study, sharing


def _choose_precision(study: Study, sharing: Sharing, slurm: SlurmOptions | None, say: Callable[[str], None]) -> str:
    """The quicker number format, measured here with the threads that a worker will have."""
    if slurm is not None and slurm.gpus:
        say("precision bfloat16: the nodes' GPUs cannot be measured from here; set recipe.precision to choose")
        return "bfloat16"
    threads = torch.get_num_threads()
    torch.set_num_threads(sharing.threads)
    try:
        return fastest_precision((trial.config.model for trial in study.trials()), default_device(), say=say)
    finally:
        torch.set_num_threads(threads)
