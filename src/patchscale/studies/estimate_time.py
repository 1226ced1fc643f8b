"""How long the rest of a study takes, from what its trials have taken so far."""

from __future__ import annotations

from patchscale.studies.run_directory import RunDirectory
from patchscale.studies.schema import Trial
from patchscale.training.costs import cost_of_trial


def work(trial: Trial) -> float:
    """Training FLOPs of one step: how trials compare before any has run."""
    return _flops(trial) * trial.config.recipe.batch_size


def seconds_left(run: RunDirectory, trials: list[Trial], workers: int) -> float | None:
    """Estimated seconds until all trials are done; none before the first progress note.

    A started trial says itself what it still takes. Seconds per step and per test point of the others come from trials
    of the same model, patch and input size, else from the average seconds per FLOP so far. Trials are dealt to
    `workers`, and none can end before its own rest.
    """
    notes = {trial.id: note for trial in trials if (note := run.progress(trial.id))}
    if not notes:
        return None
    started = [trial for trial in trials if trial.id in notes]
    steps = max(note["steps"] for note in notes.values())
    rest = []
    for trial in trials:
        if run.state(trial) in ("done", "failed", "cancelled"):
            continue
        alike = [one for one in started if _shape(one) == _shape(trial)] or started
        note, total = notes.get(trial.id), trial.config.recipe.steps or steps
        tests = [notes[one.id]["test_seconds"] / _flops(one) for one in alike if notes[one.id]["test_seconds"]]
        test = _mean(tests) * _flops(trial)
        points = trial.config.evaluation_steps(total)
        if note:
            untold = 0 if note["test_seconds"] else sum(step > note["step"] for step in points)
            rest.append(note["seconds_left"] + untold * test)
        else:
            step = _mean([notes[one.id]["seconds"] / notes[one.id]["step"] / work(one) for one in alike]) * work(trial)
            rest.append(step * total + test * len(points))
    return max([0.0, sum(rest) / workers, *rest])


def _flops(trial: Trial) -> float:
    """Training FLOPs of one image, near enough to compare trials."""
    return cost_of_trial(trial.config, num_classes=100).flops_train


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _shape(trial: Trial) -> tuple:
    spec = trial.config.model
    return spec.name, spec.patch_size, spec.input_size, trial.config.recipe.batch_size
