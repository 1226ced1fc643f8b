"""Trials of a run directory that have not finished: where each stands, as its files and locks say."""

from __future__ import annotations

from typing import Any

import pandas as pd

from patchscale.report.run import Run
from patchscale.studies import RunDirectory, Trial


def unfinished(run: Run) -> list[dict[str, Any]]:
    """Axes, state and last progress note of every planned trial that is not in the result table.

    A copied result directory that holds no trials (or no study.yaml) has none.

    Raises:
        InputError: `study.yaml` does not fit this version's schema.
    """
    if not run.study or not (run.configs or run.results.empty):
        return []
    directory = RunDirectory(run.path)
    study, _ = directory.read_study()
    done = set(run.results["trial"]) if "trial" in run.results else set()
    return [_entry(directory, run, trial) for trial in study.trials() if trial.id not in done]


def _entry(directory: RunDirectory, run: Run, trial: Trial) -> dict[str, Any]:
    height, width = trial.config.model.input_size
    entry = {
        **trial.axes,
        "trial": trial.id,
        "study": run.name,
        "input_size": height if height == width else f"{height}x{width}",
        "random_seed": trial.config.random_seed,
        "tokens": trial.config.model.tokens,
        "state": directory.state(trial),
        "reason": run.failures.get(trial.id, {}).get("reason"),
    }
    note = run.progress.get(trial.id, {})
    return {**entry, **{name: note.get(name) for name in ("step", "steps", "loss", "seconds")}}


def with_axes(results: pd.DataFrame, entries: list[dict[str, Any]]) -> pd.DataFrame:
    """The axis columns of finished and unfinished trials together, to see what varies."""
    return pd.concat([results, pd.DataFrame(entries)], ignore_index=True) if entries else results
