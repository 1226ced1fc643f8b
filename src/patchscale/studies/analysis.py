"""From finished trials to numbers: the result table, the laws, paired differences and crossings."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from patchscale import laws
from patchscale.errors import InputError
from patchscale.files import write_json, write_text
from patchscale.studies.run_directory import RunDirectory
from patchscale.studies.schema import Study, Trial
from patchscale.training import TrialConfig, read_metrics
from patchscale.training.costs import cost_of, cost_of_trial
from patchscale.training.outcome import writing

VISION = "task.vision_tokens"
SCORE = re.compile(r"\w+_(token_accuracy|exact_match)|bleu4|rouge_l|cider")
"""Scores of answers that have a curve over vision tokens, kind of question by kind."""
SIZES = ("task.language_width", "model")
"""Axes that tell the sizes of a study of repeats apart: the first that it has."""
COPIED = ("first_saying_loss", "copying_loss")
"""Losses that repetition may harm more than the whole."""
_AT = re.compile(r"(?P<score>\w+)_(?P<letter>[pnk])(?P<value>\d+)")
MEASURED_AXES = {"p": "patch_size", "n": VISION, "k": "kept_tokens"}
"""Axes along which one model is measured at several values, by the letter in the names of such scores."""


def result_table(run: RunDirectory, study: Study) -> pd.DataFrame:
    """One row a finished trial, in grid order: study, axes, scores, costs, device and commit.

    A trial that was measured at several patch sizes or numbers of vision or kept tokens has a row for each.
    """
    rows = []
    for trial in study.trials():
        result = run.result(trial.id)
        if result is not None:
            for row in at_each_value(trial, result):
                other_axes = {name: value for name, value in trial.axes.items() if name not in row}
                rows.append({"study": study.name, **row, **other_axes})
    return pd.DataFrame(rows)


def at_each_value(trial: Trial, values: dict[str, Any]) -> list[dict[str, Any]]:
    """A result row, or a line of metrics, once for each value with scores of its own (`test_loss_p<p>`, `..._n<n>`).

    Tokens and the FLOPs of an image are those of the value; time and training FLOPs are those of the one training.
    """
    found = {match: value for name, value in values.items() if (match := _AT.fullmatch(name))}
    if not found:
        return [values]
    common = {name: value for name, value in values.items() if not _AT.fullmatch(name)}
    rows = []
    for letter, value in dict.fromkeys((match["letter"], int(match["value"])) for match in found):
        scores = {m["score"]: v for m, v in found.items() if (m["letter"], int(m["value"])) == (letter, value)}
        config = _config_at(trial.config, letter, value)
        counted = {"tokens": config.model.tokens}
        if "flops_per_image" in values:
            counted["flops_per_image"] = values["flops_per_image"] + _flops(config) - _flops(trial.config)
        own = {name: count for name, count in counted.items() if name in values}
        rows.append({**common, **own, **scores, MEASURED_AXES[letter]: value})
    return rows


def _config_at(config: TrialConfig, letter: str, value: int) -> TrialConfig:
    """The trial that has one value only."""
    if letter == "p":
        return config.model_copy(update={"model": config.model.model_copy(update={"patch_size": value})})
    if letter == "k":
        return config.model_copy(update={"model": config.model.keeping(value)})
    options = {**config.task_options, "protocol": "one_each", "vision_tokens": value}
    return config.model_copy(update={"task_options": options})


def _flops(config: TrialConfig) -> int:
    """Forward FLOPs of an image, up to what does not depend on the value."""
    if config.task == "captioning":
        return cost_of_trial(config, 1).flops_forward
    return cost_of(config.model, 0).flops_forward


def learning_curves(run: RunDirectory, study: Study) -> pd.DataFrame:
    """Every test point of every finished trial, with the trial's place in the grid."""
    rows = []
    for trial in study.trials():
        if run.result(trial.id) is not None:
            place = {"trial": trial.id, "random_seed": trial.config.random_seed, **trial.axes}
            lines = read_metrics(run.trial_folder(trial.id) / "metrics.jsonl")
            tests = [line for line in lines if line["kind"] == "test"]
            rows += [{**place, **row} for line in tests for row in at_each_value(trial, line)]
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
    if study.counting is None and len(set(table[by])) > 1:
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
    if VISION in study.axes:
        scores = [name for name in table if SCORE.fullmatch(name) and not table[name].isna().to_numpy().any()]
        found["vision_tokens"] = attempt("vision tokens", lambda: laws.vision_tokens(table, scores, group, VISION))
    if "data.repeats" in study.axes:
        found["repeated_data"] = attempt("repeated data", lambda: _repeated_data(study, table, curves))
    if {"reducer", "kept_tokens"} <= set(study.axes):
        lower = request.y.endswith("loss")
        bases = attempt("kept tokens", lambda: [laws.kept_tokens(table, request.y, lower_is_better=lower)])
        found |= {"kept_tokens": bases[0]} if bases else {}
    return found


def _repeated_data(study: Study, table: pd.DataFrame, curves: pd.DataFrame) -> list[dict[str, Any]]:
    """Harm to the loss and, of language models that say an answer twice, to copying; sizes are whatever axis sets."""
    size = next(name for name in SIZES if name in study.axes)
    others = [name for name in study.axes if name not in (size, "random_seed", "data.repeats")]
    losses = [study.laws.y, *(name for name in COPIED if name in table)]
    return [one for y in losses for one in laws.repeated_data(table, curves, y, others, model=size)]


def analyse(run: RunDirectory) -> dict[str, Any]:
    """Writes results.csv, learning_curves.csv and laws.json from what is finished, and returns the laws.

    Raises:
        InputError: no trial of the study is finished, or the folder cannot be written.
    """
    study, _ = run.read_study()
    table = result_table(run, study)
    if table.empty:
        raise InputError(f"no trial in {run.path} is finished yet")
    curves = learning_curves(run, study)
    with writing(run.path):
        write_text(run.path / "results.csv", table.to_csv(index=False))
        if not curves.empty:
            write_text(run.path / "learning_curves.csv", curves.to_csv(index=False))
    found = fit_laws(study, table, curves)
    with writing(run.path):
        write_json(run.path / "laws.json", found)
    return found


def results(path: Path) -> pd.DataFrame:
    """The result table of a run directory, as written."""
    file = Path(path) / "results.csv"
    if not file.is_file():
        raise InputError(f"{path} has no results.csv; run the study first")
    return pd.read_csv(file)
