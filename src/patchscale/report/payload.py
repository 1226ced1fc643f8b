"""Everything the page shows, as one JSON-able dictionary: values are copied from run directories, never refitted."""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import Any

import pandas as pd

from patchscale.laws import published as published_table
from patchscale.report import beside, theme
from patchscale.report.curves import curve_lists, lines_by_study, measured_axes
from patchscale.report.dense import dense_pictures
from patchscale.report.frames import distinct, trials, where
from patchscale.report.pareto import COSTS, configurations, pareto
from patchscale.report.pictures import token_pictures
from patchscale.report.planner import planner_grid
from patchscale.report.precision import precision_curves
from patchscale.report.run import CURVE_COLUMNS, Run
from patchscale.report.unfinished import unfinished, with_axes
from patchscale.report.verdict import counted_verdict, falling, falling_sentences, inversions, plural, verdict
from patchscale.report.vision import vision_panels

OUTCOMES = {
    "trial", "task", "data", "tokens", "random_seed", "params", "params_without_positions", "flops_per_image",
    "train_flops", "steps", "samples_seen", "train_loss", "test_loss", "top1", "top5", "loss_drop_last_doubling",
    "seconds", "images_per_second", "peak_memory_bytes", "memory_bytes_per_image",
    "device_hours_per_epoch", "precision", "device", "commit",
    "state", "reason", "step", "loss",
}  # fmt: skip
"""Columns of the result table that are no axis; the task's other scores are known from the learning curves."""

FAMILIES = {"deit": "DeiT", "adventurer": "Adventurer"}


def payload(runs: list[Run], *, live: bool = False) -> dict[str, Any]:
    """The page's data.

    Args:
        runs: one or more run directories; several are shown as one merged set, with `study` as an axis.
        live: the page asks for newer data while it is open.
    """
    results = pd.concat([_with_study(run) for run in runs], ignore_index=True)
    curves = pd.concat([run.curves for run in runs], ignore_index=True)
    y = next((run.laws["y"] for run in runs if run.laws.get("y")), "test_loss")
    waiting = [entry for run in runs for entry in unfinished(run)]
    every = with_axes(results, waiting)
    axes = axis_columns(every, curves, several=len(runs) > 1)
    means = configurations(results, axes, y) if len(results) and y in results else pd.DataFrame()
    differences = _gather(runs, "differences")
    name = " + ".join(dict.fromkeys(run.name for run in runs))
    title = runs[0].study.get("title", name) if len(runs) == 1 else name
    labels = model_labels(distinct(every, "model"))
    shown = results.assign(model=[labels[name] for name in results["model"]]) if len(results) else results
    worded = [relabelled(entry, labels) for entry in differences]
    counted = [run.name for run in runs if run.counted]
    nothing_trained = len(counted) == len(runs)
    return clean(
        {
            "title": title,
            "name": name,
            "live": live,
            "y": y,
            "counted": counted,
            "verdict": counted_verdict(shown, y) if nothing_trained else verdict(shown, worded, name, axes, y),
            "inversions": inversions(differences),
            "falling": falling_sentences(shown),
            "falling_trials": list(falling(results)["trial"]) if len(results) else [],
            "facts": facts(trials(results), len(trials(every))),
            "patches": sorted(distinct(every, "patch_size"), reverse=True),
            "unfinished": waiting,
            "tokens": token_pictures(runs[0])
            if len(runs) == 1 and not (live or nothing_trained)
            else {"pictures": [], "note": ""},
            "dense": dense_pictures(runs[0], axes) if len(runs) == 1 and not live else None,
            "precision": precision_curves(runs[0], axes) if len(runs) == 1 and not live else None,
            "vision": vision_panels(runs[0], axes) if len(runs) == 1 and not live else None,
            "labels": labels,
            "axes": axes,
            "columns": list(results.columns),
            "rows": results.to_numpy(dtype=object).tolist(),
            "csv": _csv(runs, results),
            "laws": _gather(runs, "laws"),
            "notes": [note for run in runs for note in run.laws.get("notes", [])],
            "differences": differences,
            "crossings": _gather(runs, "crossings"),
            "repeats": _gather(runs, "repeated_data"),
            "bases": runs[0].laws.get("kept_tokens") if len(runs) == 1 else None,
            "curves": curve_lists(curves),
            "lines": lines_by_study(runs, every),
            "planner": None if live or nothing_trained else planner_grid(runs),
            "costs": COSTS,
            "configurations": means.to_dict("records"),
            "pareto": {cost: list(pareto(means, cost, y).index) for cost in COSTS if cost in means},
            "published": published_points(results),
            "beside": [] if live else [panel for run in runs for panel in beside.panels(run, axes)],
            "config": split_configs(runs),
            "provenance": provenance(runs, results),
            "theme": theme.page_theme(),
        }
    )


def axis_columns(results: pd.DataFrame, curves: pd.DataFrame, *, several: bool = False) -> list[str]:
    """Columns that name a configuration: model, input and patch size, and every axis the study added."""
    scores = set(curves.columns) - {*CURVE_COLUMNS, *measured_axes(curves)}
    named = [name for name in results if name not in OUTCOMES | scores and (name != "study" or several)]
    return [name for name in named if name in ("model", "patch_size") or len(distinct(results, name)) > 1]


def model_labels(models: Any) -> dict[str, str]:
    """Names without `_patch16`, which says nothing once the patch size is an axis; kept where two would coincide."""
    short = {model: re.sub(r"_patch\d+$", "", str(model)) for model in models}
    taken = list(short.values())
    return {model: name if taken.count(name) == 1 else model for model, name in short.items()}


def relabelled(entry: dict[str, Any], labels: dict[str, str]) -> dict[str, Any]:
    """A copy of an entry of `laws.json` whose group names the model as the page does."""
    group = {name: labels.get(value, value) if name == "model" else value for name, value in entry["group"].items()}
    return {**entry, "group": group}


def published_points(results: pd.DataFrame) -> list[dict[str, Any]]:
    """Published top-1 accuracies of the families in the study, as error rates (ImageNet-1k, Base models)."""
    if "classification" not in distinct(results, "task"):
        return []
    models = [str(model) for model in distinct(results, "model")]
    names = {name: family for family, name in FAMILIES.items() if any(model.startswith(family) for model in models)}
    table = published_table(1)
    table = where(table, (table["metric"] == "top1_percent") & table["tokens"].notna())
    return [
        {
            "family": names[family],
            "model": row["model"],
            "input_size": int(row["input"]),
            "patch_size": int(row["patch"]),
            "tokens": int(row["tokens"]),
            "error": round(1 - row["value"] / 100, 6),
        }
        for row in table.to_dict("records")
        if (family := row["model"].split("-")[0]) in names
    ]


def split_configs(runs: list[Run]) -> dict[str, Any]:
    """Configurations as flat settings: what all trials share, and per trial what it adds or changes."""
    flat = {trial: flatten(config) for run in runs for trial, config in run.configs.items()}
    if not flat:
        return {"common": {}, "trials": {}}
    first = next(iter(flat.values()))
    common = {key: value for key, value in first.items() if all(key in f and f[key] == value for f in flat.values())}
    own = {trial: {key: value for key, value in f.items() if key not in common} for trial, f in flat.items()}
    return {"common": common, "trials": own}


def facts(results: pd.DataFrame, planned: int) -> list[list[str]]:
    """Short label and value pairs under the verdict, from one row a trial."""
    count = f"{len(results):,}" if planned <= len(results) else f"{len(results):,} of {planned:,}"
    pairs = [["trials", count]]
    for column, label in (("data", "data"), ("task", "task"), ("device", "device")):
        if column in results and len(results):
            pairs.append([label, ", ".join(str(value) for value in distinct(results, column))])
    if "seconds" in results and len(results):
        pairs.append(["training time, all trials", duration(results["seconds"].to_numpy().sum())])
    return pairs


def provenance(runs: list[Run], results: pd.DataFrame) -> list[list[str]]:
    """Commit, device, precision and versions, with how many trials have each where they differ."""
    pairs: list[list[str]] = []
    for column in ("commit", "device", "precision"):
        if column in results:
            counts = Counter(results[column].dropna().astype(str).tolist())
            named = [value if len(counts) == 1 else f"{value} ({plural(n, 'trial')})" for value, n in counts.items()]
            pairs += [[column, ", ".join(named)]] if named else []
    for run in runs:
        prefix = f"{run.name}: " if len(runs) > 1 else ""
        stored = flatten(run.about.get("provenance", {}))
        pairs += [
            [prefix + key.replace("versions.", ""), str(value)]
            for key, value in stored.items()
            if key not in ("commit", "device")
        ]
        pairs.append([prefix + "run directory", run.path.name])
    return pairs


def flatten(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys."""
    flat: dict[str, Any] = {}
    for key, part in value.items():
        flat.update(flatten(part, f"{prefix}{key}.") if isinstance(part, dict) and part else {f"{prefix}{key}": part})
    return flat


def duration(seconds: float) -> str:
    """`48 s`, `12 min`, `3.4 h`, `2.1 d`."""
    for size, unit, digits in ((86400, "d", 1), (3600, "h", 1), (60, "min", 0)):
        if seconds >= size * (2 if unit == "d" else 1):
            return f"{seconds / size:.{digits}f} {unit}"
    return f"{seconds:.0f} s"


def clean(value: Any) -> Any:
    """Plain JSON values: numpy scalars become Python's, not-a-number and infinities become null."""
    if isinstance(value, dict):
        return {str(key): clean(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(part) for part in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return None if value is pd.NA or value is pd.NaT else value


def _with_study(run: Run) -> pd.DataFrame:
    return run.results if "study" in run.results or run.results.empty else run.results.assign(study=run.name)


def _gather(runs: list[Run], part: str) -> list[dict[str, Any]]:
    """Entries of one part of every `laws.json`, each saying its study when there are several.

    What compares neighbouring values also says of which axis (`by`), and by which loss (`y`).
    """
    return [
        {**_compared(run, part), **entry, "group": {**({"study": run.name} if len(runs) > 1 else {}), **_group(entry)}}
        for run in runs
        for entry in run.laws.get(part, [])
    ]


def _compared(run: Run, part: str) -> dict[str, str]:
    return {"by": run.refinement, "y": run.laws["y"]} if part in ("differences", "crossings") else {}


def _group(entry: dict[str, Any]) -> dict[str, Any]:
    group = entry.get("group") or {}
    return group if isinstance(group, dict) else {"group": group}


def _csv(runs: list[Run], results: pd.DataFrame) -> str:
    return runs[0].results_text if len(runs) == 1 else results.to_csv(index=False)
