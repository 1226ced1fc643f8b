"""How long the rest of a study takes, from what its trials have taken so far."""

from __future__ import annotations

from typing import Any

from patchscale.studies.run_directory import RunDirectory
from patchscale.studies.schema import Trial
from patchscale.training.costs import cost_of_trial
from patchscale.training.lengths import Length, lengths


def work(trial: Trial) -> float:
    """Training FLOPs of one step: how trials compare before any has run."""
    return cost_of_trial(trial.config, num_classes=100).flops_train * trial.config.recipe.batch_size


def images_per_second(trial: Trial, note: dict[str, Any]) -> float:
    """Of a trial's training so far, by its last progress note."""
    images = sum(part.batch_size * done for part, done in _so_far(trial, note))
    return images / note["seconds"] if note["seconds"] else 0.0


def seconds_left(run: RunDirectory, trials: list[Trial], workers: int) -> float | None:
    """Estimated seconds until all trials are done; none before the first progress note.

    A started trial says itself what it still takes. Seconds per FLOP of training and per test point of the others come
    from trials of the same model, patch and input size, else from the average so far. Trials are dealt to `workers`,
    and none can end before its own rest.
    """
    notes = {trial.id: note for trial in trials if (note := run.progress(trial.id))}
    if not notes:
        return None
    started = [trial for trial in trials if trial.id in notes]
    training = {trial.id: _training_pace(trial, notes[trial.id]) for trial in started}
    testing = {trial.id: _testing_pace(trial, notes[trial.id]) for trial in started}
    train_size = max(map(_train_size, notes.values()))
    rest = []
    for trial in trials:
        if run.state(trial) in ("done", "failed", "cancelled"):
            continue
        alike = [one.id for one in started if _shape(one) == _shape(trial)] or list(notes)
        test = _mean([testing[one] for one in alike if testing[one]])
        note = notes.get(trial.id)
        if note is None:
            flops, tests = _ahead(_divided(trial, train_size, step=0))
            rest.append(_mean([training[one] for one in alike]) * flops + test * tests)
        else:
            untold = 0 if note["test_seconds"] else test * _ahead(_so_far(trial, note))[1]
            rest.append(note["seconds_left"] + untold)
    return max([0.0, sum(rest) / workers, *rest])


def _train_size(note: dict[str, Any]) -> int:
    """Training samples; notes of earlier versions lack them."""
    return note.get("train_size", 0)


def _so_far(trial: Trial, note: dict[str, Any]) -> list[tuple[Length, int]]:
    """The trainings of a started trial, each with its steps that are done."""
    return _divided(trial, _train_size(note), note["step"])


def _divided(trial: Trial, train_size: int, step: int) -> list[tuple[Length, int]]:
    """The trainings of a trial, each with its share of the trial's first `step` steps."""
    *earlier, own = lengths(trial.config, train_size)
    found = []
    for part in earlier:
        done = min(part.steps, step)
        found.append((part, done))
        step -= done
    return [*found, (own, step)]


def _ahead(parts: list[tuple[Length, int]]) -> tuple[float, float]:
    """What the steps that are not done take: FLOPs of training, and those of an image for every test point."""
    training = sum(part.work * (part.steps - done) for part, done in parts)
    return training, sum(part.flops * sum(point > done for point in part.points) for part, done in parts)


def _training_pace(trial: Trial, note: dict[str, Any]) -> float:
    """Seconds of a training FLOP."""
    return note["seconds"] / sum(part.work * done for part, done in _so_far(trial, note))


def _testing_pace(trial: Trial, note: dict[str, Any]) -> float:
    """Seconds of a test point by the training FLOPs of an image, in the training that the trial is in."""
    *_, now = (part for part, done in _so_far(trial, note) if done)
    return note["test_seconds"] / now.flops


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _shape(trial: Trial) -> tuple:
    spec = trial.config.model
    return spec.name, spec.patch_size, spec.input_size, trial.config.recipe.batch_size
