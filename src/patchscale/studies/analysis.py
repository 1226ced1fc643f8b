"""From finished trials to numbers: the result table, the laws, paired differences and crossings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from patchscale import laws
from patchscale.errors import InputError
from patchscale.files import write_json, write_text
from patchscale.studies.run_directory import RunDirectory
from patchscale.studies.schema import Study
from patchscale.training import read_metrics


def result_table(run: RunDirectory, study: Study) -> pd.DataFrame:
    """One row a finished trial, in grid order: study, axes, scores, costs, device and commit."""
    rows = []
    for trial in study.trials():
        result = run.result(trial.id)
        if result is not None:
            other_axes = {name: value for name, value in trial.axes.items() if name not in result}
            rows.append({"study": study.name, **result, **other_axes})
    return pd.DataFrame(rows)


def learning_curves(run: RunDirectory, study: Study) -> pd.DataFrame:
    """Every test point of every finished trial, with the trial's place in the grid."""
    rows = []
    for trial in study.trials():
        if run.result(trial.id) is not None:
            place = {"trial": trial.id, "random_seed": trial.config.random_seed, **trial.axes}
            lines = read_metrics(run.trial_folder(trial.id) / "metrics.jsonl")
            rows += [{**place, **line} for line in lines if line["kind"] == "test"]
    return pd.DataFrame(rows)


def fit_laws(study: Study, table: pd.DataFrame, curves: pd.DataFrame) -> dict[str, Any]:
    """The content of laws.json: fitted laws, differences between neighbouring refinements, crossings.

    What cannot be fitted or compared yet, such as a law of too few points, is left out and named under `notes`.
    """
    request, group = study.laws, study.separating_axes()
    notes: list[str] = []

    def attempt(what: str, call: Callable[[], list]) -> list:
        try:
            return call()
        except InputError as error:
            notes.append(f"{what}: {error}")
            return []

    fitted = []
    for form in request.forms:
        for place, part in table.groupby(group, sort=False) if group else [((), table)]:
            name = f"{form} for {place}"
            found = attempt(name, lambda part=part, form=form: laws.fit(part, request.x, request.y, group, form))
            fitted += [{"group": law.group, **law.to_dict()} for law in found]
    by = request.refinement
    differences, crossings = [], []
    if len(set(table[by])) > 1:
        differences = attempt("differences", lambda: laws.paired_differences(table, by, group, y=request.y))
        crossings = attempt("crossings", lambda: laws.crossings(curves, by, group, "train_flops", request.y))
    found = {
        "study": study.name,
        "x": request.x,
        "y": request.y,
        "laws": fitted,
        "differences": differences,
        "crossings": crossings,
        "notes": notes,
    }
    if {"reducer", "kept_tokens"} <= set(study.axes):
        lower = request.y.endswith("loss")
        bases = attempt("kept tokens", lambda: [laws.kept_tokens(table, request.y, lower_is_better=lower)])
        found |= {"kept_tokens": bases[0]} if bases else {}
    return found


def analyse(run: RunDirectory) -> dict[str, Any]:
    """Writes results.csv and laws.json from what is finished, and returns the laws.

    Raises:
        InputError: no trial of the study is finished.
    """
    study, _ = run.read_study()
    table = result_table(run, study)
    if table.empty:
        raise InputError(f"no trial in {run.path} is finished yet")
    write_text(run.path / "results.csv", table.to_csv(index=False))
    found = fit_laws(study, table, learning_curves(run, study))
    write_json(run.path / "laws.json", found)
    return found


def results(path: Path) -> pd.DataFrame:
    """The result table of a run directory, as written."""
    file = Path(path) / "results.csv"
    if not file.is_file():
        raise InputError(f"{path} has no results.csv; run the study first")
    return pd.read_csv(file)
