"""How long the rest of a study takes, from what its trials have taken so far."""

from __future__ import annotations

from patchscale.studies.run_directory import RunDirectory
from patchscale.studies.schema import Trial
from patchscale.training.costs import cost_of


def work(trial: Trial) -> float:
    """Training FLOPs of one step: how trials compare before any has run."""
    return cost_of(trial.config.model, num_classes=100).flops_train * trial.config.recipe.batch_size


def seconds_left(run: RunDirectory, trials: list[Trial], workers: int) -> float | None:
    """Estimated seconds until all trials are done; none before the first progress note.

    A started trial says itself what it still takes. Seconds per step of the others come from trials of the same model,
    patch and input size, else from the average seconds per FLOP so far. Trials are dealt to `workers`, and none can
    end before its own rest.
    """
    notes = {trial.id: run.progress(trial.id) for trial in trials}
    pace: dict[tuple, list[float]] = {}
    per_flop: list[float] = []
    for trial in trials:
        note = notes[trial.id]
        if note:
            seconds = note["seconds"] / note["step"]
            pace.setdefault(_shape(trial), []).append(seconds)
            per_flop.append(seconds / work(trial))
    if not per_flop:
        return None
    steps = max(note["steps"] for note in notes.values() if note)
    rest = []
    for trial in trials:
        if run.state(trial) in ("done", "failed"):
            continue
        note = notes[trial.id]
        if note:
            rest.append(note["seconds_left"])
            continue
        known = pace.get(_shape(trial))
        seconds = sum(known) / len(known) if known else sum(per_flop) / len(per_flop) * work(trial)
        rest.append(seconds * (trial.config.recipe.steps or steps))
    return max([0.0, sum(rest) / workers, *rest])


def _shape(trial: Trial) -> tuple:
    spec = trial.config.model
    return spec.name, spec.patch_size, spec.input_size, trial.config.recipe.batch_size
