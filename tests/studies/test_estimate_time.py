"""The time left counts steps and test points, of trials that run and of trials that wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchscale.files import write_json
from patchscale.studies import RunDirectory, Trial, load_study
from patchscale.studies.estimate_time import images_per_second, seconds_left

STEPS = 64
POINTS = {1, 2, 4, 8, 16, 32, 64}


@pytest.fixture
def trials() -> list[Trial]:
    settings = [f"recipe.steps={STEPS}", f"evaluations={len(POINTS)}", "axes.model=[deit_pico_patch16]"]
    settings += ["axes.patch_size=[16]", "axes.random_seed=[0,1]"]
    trials = load_study("quickstart", settings=settings).trials()
    assert trials[0].config.evaluation_steps(STEPS) == POINTS
    return trials


def note(
    run: RunDirectory, trial: Trial, step: int, seconds: float, test_seconds: float, left: float, steps: int = STEPS
) -> None:
    run.trial_folder(trial.id).mkdir(parents=True, exist_ok=True)
    content = {"step": step, "steps": steps, "seconds": seconds, "test_seconds": test_seconds, "seconds_left": left}
    write_json(run.trial_folder(trial.id) / "progress.json", content | {"train_size": 100})


def test_nothing_is_known_before_anything_ran(tmp_path: Path, trials: list[Trial]) -> None:
    assert seconds_left(RunDirectory(tmp_path), trials, workers=1) is None


def test_a_waiting_trial_takes_the_steps_and_test_points_of_its_like(tmp_path: Path, trials: list[Trial]) -> None:
    run = RunDirectory(tmp_path)
    note(run, trials[0], step=32, seconds=16.0, test_seconds=3.0, left=19.0)
    waiting = 0.5 * STEPS + 3.0 * len(POINTS)
    assert seconds_left(run, trials, workers=1) == pytest.approx(19.0 + waiting)
    assert seconds_left(run, trials, workers=2) == pytest.approx(waiting)
    write_json(run.trial_folder(trials[0].id) / "result.json", {})
    assert seconds_left(run, trials, workers=1) == pytest.approx(waiting)


def test_a_trial_before_its_first_test_point_borrows_its_time(tmp_path: Path, trials: list[Trial]) -> None:
    run = RunDirectory(tmp_path)
    note(run, trials[0], step=64, seconds=32.0, test_seconds=3.0, left=0.0)
    note(run, trials[1], step=3, seconds=1.5, test_seconds=0.0, left=30.5)
    later = len([point for point in POINTS if point > 3])
    assert seconds_left(run, trials, workers=1) == pytest.approx(30.5 + 3.0 * later)


@pytest.mark.parametrize("length", ["steps=100", "epochs=32"])
def test_a_waiting_trial_takes_the_steps_of_all_its_stages(tmp_path: Path, length: str) -> None:
    """A thousand steps of a second in the first stage, then a hundred of half the images."""
    recipe = {"batch_size": 64, "precision": "float32"}
    settings = ["axes.model=[deit_pico_patch16]", "axes.patch_size=[16]", "axes.random_seed=[0,1]", "evaluations=1"]
    settings += [f"recipe.{length}", "recipe.batch_size=32", "recipe.warmup_steps=0"]
    settings += [f"stages={[{'name': 'first', 'recipe': recipe | {'steps': 1000}}]}"]
    trials, run = load_study("quickstart", settings=settings).trials(), RunDirectory(tmp_path)
    note(run, trials[0], step=500, seconds=500.0, test_seconds=0.0, left=550.0, steps=1100)
    assert seconds_left(run, trials, workers=1) == pytest.approx(550 + 1050)
    assert images_per_second(trials[0], run.progress(trials[0].id) or {}) == pytest.approx(64)
    note(run, trials[0], step=1002, seconds=1001.0, test_seconds=2.0, left=49.0, steps=1100)
    assert seconds_left(run, trials, workers=1) == pytest.approx(49 + 1050 + 2 * 2)
    assert images_per_second(trials[0], run.progress(trials[0].id) or {}) == pytest.approx(64)
