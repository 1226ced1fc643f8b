"""From finished trials to numbers: the result table, the laws, paired differences and crossings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from patchscale import laws
from patchscale.errors import InputError
from patchscale.files import write_json, write_text
from patchscale.studies.run_directory import RunDirectory
from patchscale.studies.schema import Study
from patchscale.training import read_metrics


def result_table(run: RunDirectory, study: Study, commit: str) -> pd.DataFrame:
    """One row a finished trial, in grid order: study, axes, scores, costs, provenance."""
    rows = []
    for trial in study.trials():
        result = run.result(trial.id)
        if result is not None:
            other_axes = {name: value for name, value in trial.axes.items() if name not in result}
            rows.append({"study": study.name, **result, **other_axes, "commit": commit})
    return pd.DataFrame(rows)


def learning_curves(run: RunDirectory, table: pd.DataFrame) -> pd.DataFrame:
    """Every test point of every finished trial, with the trial's place in the grid."""
    rows = []
    for _, row in table.iterrows():
        place = {name: row[name] for name in ("trial", "model", "input_size", "patch_size", "random_seed")}
        lines = read_metrics(run.trial_folder(str(row["trial"])) / "metrics.jsonl")
        rows += [{**place, **line} for line in lines if line["kind"] == "test"]
    return pd.DataFrame(rows)


def fit_laws(study: Study, table: pd.DataFrame, curves: pd.DataFrame) -> dict[str, Any]:
    """The content of laws.json: fitted laws, differences between neighbouring refinements, crossings.

    A form that the table has too few points for is left out and named under `notes`.
    """
    request = study.laws
    group = [name for name in request.group if name in table.columns]
    fitted, notes = [], []
    for form in request.forms:
        try:
            for law in laws.fit(table, x=request.x, y=request.y, group=group, form=form):
                fitted.append({"group": law.group, **law.to_dict()})
        except InputError as error:
            notes.append(f"{form}: {error}")
    differences, crossings = [], []
    if len(set(table[request.refinement])) > 1:
        differences = laws.paired_differences(table, by=request.refinement, group=group, y=request.y)
        crossings = laws.crossings(curves, by=request.refinement, group=group, x="train_flops", y=request.y)
    return {
        "study": study.name,
        "x": request.x,
        "y": request.y,
        "laws": fitted,
        "differences": differences,
        "crossings": crossings,
        "notes": notes,
    }


def analyse(run: RunDirectory) -> dict[str, Any]:
    """Writes results.csv and laws.json from what is finished, and returns the laws.

    Raises:
        InputError: no trial of the study is finished.
    """
    study, about = run.read_study()
    table = result_table(run, study, about["provenance"]["commit"])
    if table.empty:
        raise InputError(f"no trial in {run.path} is finished yet")
    write_text(run.path / "results.csv", table.to_csv(index=False))
    found = fit_laws(study, table, learning_curves(run, table))
    write_json(run.path / "laws.json", found)
    return found


def results(path: Path) -> pd.DataFrame:
    """The result table of a run directory, as written."""
    file = Path(path) / "results.csv"
    if not file.is_file():
        raise InputError(f"{path} has no results.csv; run the study first")
    return pd.read_csv(file)
