"""Reads run directories: the files of the contract, as tables and plain values, nothing computed.

A directory of a study that still runs has no `results.csv` or `laws.json` yet; the parts that are there are read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from patchscale.errors import InputError
from patchscale.studies import RunDirectory, Trial
from patchscale.studies.analysis import MEASURED_AXES, at_each_value, fit_laws, learning_curves, result_table
from patchscale.studies.clear_errors import clear_errors
from patchscale.training import TrialConfig

CURVE_COLUMNS = ["trial", "step", "samples", "train_flops", "seconds", "peak_memory_bytes"]
"""Columns of every test line; the task's scores (`test_loss`, `top1`, ...) follow them."""


@dataclass(frozen=True)
class Run:
    """One run directory as read.

    Attributes:
        path: the directory.
        study: the resolved study of `study.yaml`.
        about: what stands beside it there (provenance, sharing).
        results: `results.csv`, one row a finished trial (empty while none has finished).
        results_text: the file itself, byte for byte, for the page's download.
        laws: `laws.json`.
        curves: test lines of every `metrics.jsonl` (else of `learning_curves.csv`), with a `trial` column. A trial
            that was measured at several values of an axis has a line for each, with the value; others leave it empty.
        configs: `config.json` by trial id.
        outcomes: `result.json` by trial id.
        progress: `progress.json` by trial id.
        failures: `failed.json` by trial id.
    """

    path: Path
    study: dict[str, Any]
    about: dict[str, Any]
    results: pd.DataFrame
    results_text: str
    laws: dict[str, Any]
    curves: pd.DataFrame
    configs: dict[str, dict[str, Any]]
    outcomes: dict[str, dict[str, Any]]
    progress: dict[str, dict[str, Any]]
    failures: dict[str, dict[str, Any]]

    @property
    def name(self) -> str:
        """The study's name: `study.yaml` says it, otherwise the table, otherwise the folder."""
        if self.study.get("name"):
            return str(self.study["name"])
        if len(self.results) and "study" in self.results:
            return str(self.results["study"].iloc[0])
        return self.path.name

    @property
    def refinement(self) -> str:
        """The axis whose neighbouring values are compared."""
        return self.study.get("laws", {}).get("refinement", "patch_size")

    @property
    def counted(self) -> bool:
        """Whether nothing was trained: every value was counted from shapes and is a prediction."""
        return bool(self.study.get("counting"))


def read(path: Path | str) -> Run:
    """Reads a run directory.

    Raises:
        InputError: the directory is absent or holds neither `study.yaml` nor `results.csv`, or a file in it is damaged.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"run directory {path} does not exist; give the folder that `patchscale study run` printed")
    table = path / "results.csv"
    if not table.is_file() and not (path / "study.yaml").is_file():
        raise InputError(f"{path} is not a run directory: it holds neither study.yaml nor results.csv")
    results, text = pd.DataFrame(), ""
    if table.is_file():
        text = table.read_text()
        results = _table(table)
    about = _yaml(path / "study.yaml")
    study = about.pop("study", {})
    trials = sorted(folder for folder in (path / "trials").glob("*") if folder.is_dir())
    configs = _by_trial(trials, "config.json")
    return Run(
        path=path,
        study=study,
        about=about,
        results=results,
        results_text=text,
        laws=_json(path / "laws.json"),
        curves=_curves(trials, configs) if trials else _kept_curves(path / "learning_curves.csv", study),
        configs=configs,
        outcomes=_by_trial(trials, "result.json"),
        progress=_by_trial(trials, "progress.json"),
        failures=_by_trial(trials, "failed.json"),
    )


def read_live(path: Path | str) -> Run:
    """`read`, with rows of trials that finished after `results.csv` was written, and laws fitted to all of them.

    Nothing is written: the study's own process writes `results.csv` and `laws.json` when it ends.
    """
    run = read(path)
    known = set(run.results["trial"]) if len(run.results) else set()
    if not set(run.outcomes) - known:
        return run
    directory = RunDirectory(run.path)
    study, _ = directory.read_study()
    results = result_table(directory, study)
    laws = json.loads(json.dumps(fit_laws(study, results, learning_curves(directory, study))))
    return replace(run, results=results, results_text=results.to_csv(index=False), laws=laws)


def _table(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype={"trial": str, "commit": str, "study": str}, engine="python")  # exact floats
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise InputError(f"{path} is not a readable table ({error}); run the study's command again") from error


def _yaml(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not readable YAML: {str(error).splitlines()[0]}") from error


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is not readable JSON ({error}); run the study's command again") from error


def _by_trial(trials: list[Path], name: str) -> dict[str, dict[str, Any]]:
    return {folder.name: _json(folder / name) for folder in trials if (folder / name).is_file()}


def _kept_curves(path: Path, study: dict[str, Any]) -> pd.DataFrame:
    """Test lines of a directory whose trials were not kept, without the axes that the table repeats."""
    if not path.is_file():
        return _curves([], {})
    table = pd.read_csv(path, dtype={"trial": str})
    for name in MEASURED_AXES.values():
        if name in table:
            values = table.groupby("trial")[name].transform("nunique")
            table[name] = table[name].where(values.to_numpy() > 1)
    named = {"kind", "random_seed", *study.get("axes", {})} - set(MEASURED_AXES.values())
    return table.loc[:, [name for name in table if name not in named]].dropna(axis="columns", how="all")


def _curves(trials: list[Path], configs: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Test lines of all trials; a last line without its end is still being written and is left out."""
    rows: list[dict[str, Any]] = []
    for folder in trials:
        path = folder / "metrics.jsonl"
        if not path.is_file():
            continue
        at_each = _at_each(folder.name, configs)
        for number, line in enumerate(path.read_text().split("\n")[:-1], start=1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{path} line {number} is not readable JSON ({error})") from error
            if row.get("kind") == "test":
                del row["kind"]
                rows += [{"trial": folder.name, **one} for one in at_each(row)]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=[*CURVE_COLUMNS, "test_loss"])


def _at_each(trial: str, configs: dict[str, dict[str, Any]]) -> Callable[[dict[str, Any]], list[dict[str, Any]]]:
    """What makes a line of each value at which a trial's model was measured."""
    if trial not in configs:
        return lambda line: [line]
    with clear_errors(f"trials/{trial}/config.json"):
        planned = Trial(config=TrialConfig.model_validate(configs[trial]), axes={})
    return lambda line: at_each_value(planned, line)
