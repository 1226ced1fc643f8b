"""The study in plain words: one paragraph, then the sentences of the laws, the inversions and the unfinished curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from patchscale.report.frames import distinct, means, trials, where

STILL_FALLING = 0.02
"""A curve whose test loss fell by more than this fraction over the last doubling of samples has not settled."""

DROP = "loss_drop_last_doubling"

COUNTED = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


def verdict(
    results: pd.DataFrame,
    differences: Sequence[dict[str, Any]],
    study: str,
    axes: Sequence[str],
    y: str = "test_loss",
) -> str:
    """One paragraph: what was trained, whether finer patches helped, the best trial, what is not settled.

    Args:
        results: the result table; may be empty.
        differences: `laws.json`'s paired differences, with the axis refined (`by`) and the loss changed (`y`).
        study: the study's name.
        axes: columns that name a configuration.
        y: the quality column (lower is better).
    """
    if results.empty or y not in results:
        return f"No trial of {study} has finished yet; this page fills as trials end."
    parts = [_what(results), _refinements(differences), _best(results, axes, y), _unsettled(results)]
    return " ".join(part for part in parts if part)


def counted_verdict(results: pd.DataFrame, y: str) -> str:
    """One paragraph of a study that trained nothing: what was counted, for what, and the range of `y`."""
    patches = listed(sorted(distinct(results, "patch_size"), reverse=True))
    what = f"{listed(distinct(results, 'model'))} were counted from their shapes at patch sizes {patches}"
    device = listed(distinct(results, "device")).removesuffix(", predicted")
    least, most = (f"{value:,.3g}" for value in (results[y].min(), results[y].max()))
    return (
        f"Nothing was trained here: {what} ({plural(len(results), 'trial')}). Every point is a prediction for "
        f"{device}; {words(y)} runs from {least} to {most}."
    )


def inversions(differences: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The refinements whose interval says that the finer patch is worse."""
    return [entry for entry in differences if entry["verdict"] == "inversion"]


def falling(results: pd.DataFrame) -> pd.DataFrame:
    """Trials whose test loss was still falling when they ended."""
    if DROP not in results:
        return results.iloc[:0]
    return trials(where(results, results[DROP] > STILL_FALLING))


def falling_sentences(results: pd.DataFrame) -> list[str]:
    """One sentence per model (and input size) whose curves had not settled, with the patch sizes concerned."""
    steep = falling(results)
    axes = [name for name in ("study", "model", "input_size") if len(distinct(results, name)) > 1]
    if steep.empty:
        return []
    groups = steep.groupby(axes, sort=False) if axes else [((), steep)]
    return [f"{_place(dict(zip(axes, _tuple(key), strict=True)))}{_steepness(group)}." for key, group in groups]


def _steepness(group: pd.DataFrame) -> str:
    low, high = (f"{100 * drop:.1f}" for drop in (group[DROP].min(), group[DROP].max()))
    drop = low if low == high else f"{low} to {high}"
    where = ""
    if "patch_size" in group:
        patches = sorted(distinct(group, "patch_size"), reverse=True)
        where = f"patch size{'s' if len(patches) > 1 else ''} {listed(patches)}, "
    return f"{where}by {drop} % over the last doubling of samples"


def _place(values: dict[str, Any]) -> str:
    """`study · model · 48 px · decoder linear: `."""
    texts = [
        f"{value} px" if name == "input_size" else str(value) if name in ("study", "model") else _at(name, value)
        for name, value in values.items()
    ]
    return " · ".join(texts) + ": " if texts else ""


def plural(count: int, noun: str, *, words: bool = False) -> str:
    """`3 trials`, `1 trial`; with `words`, small counts are spelled out."""
    number = COUNTED[count] if words and count < len(COUNTED) else f"{count:,}"
    return f"{number} {noun}" + ("" if count == 1 else "s")


def words(column: str) -> str:
    """`patch size`, `vision tokens` of `task.vision_tokens`."""
    return column.rpartition(".")[2].replace("_", " ")


def listed(values: Sequence[Any]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    texts = [str(value) for value in values]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


def _what(results: pd.DataFrame) -> str:
    models = distinct(results, "model") or ["the model"]
    data = distinct(results, "data") or ["its data"]
    text = f"{listed(models)} {'was' if len(models) == 1 else 'were'} trained on {listed(data)}"
    if "patch_size" in results:
        patches = sorted(distinct(results, "patch_size"), reverse=True)
        text += f" at patch size{'s' if len(patches) > 1 else ''} {listed(patches)}"
    if "random_seed" in results:
        text += f" with {plural(len(distinct(results, 'random_seed')), 'random seed', words=True)}"
    return f"{text} ({plural(len(trials(results)), 'trial')})."


def _refinements(differences: Sequence[dict[str, Any]]) -> str:
    if not differences:
        return ""
    counts = {
        word: sum(entry["verdict"] == word for entry in differences) for word in ("lower", "inversion", "undecided")
    }
    steps = plural(len(differences), "refinement")
    losses = " or ".join(dict.fromkeys(words(entry["y"]) for entry in differences))
    if counts["lower"] == len(differences):
        return f"Every one of the {steps} lowered the {losses}, beyond the paired interval over random seeds."
    text = f"Of {steps}, {counts['lower']} lowered the {losses} beyond the paired interval over random seeds"
    if counts["undecided"]:
        text += f", {counts['undecided']} {'is' if counts['undecided'] == 1 else 'are'} undecided"
    if counts["inversion"]:
        worse = [
            f"{_group(entry, differences)}{words(entry['by'])} {entry['from']} to {entry['to']}"
            for entry in inversions(differences)[:4]
        ]
        more = f" and {counts['inversion'] - 4} more" if counts["inversion"] > 4 else ""
        return f"{text}, and {plural(counts['inversion'], 'inversion')} raised it ({listed(worse)}{more})."
    return f"{text}; none raised it." if counts["lower"] else f"{text}; none is shown to raise it."


def _best(results: pd.DataFrame, axes: Sequence[str], y: str) -> str:
    questions = [name for name in ("task", "data") if name in results]
    if questions and len(results[questions].drop_duplicates()) > 1:
        return "Their losses are of different tasks or data, so none is called the lowest."
    known = means(results, [name for name in axes if name in results], [y]).dropna(subset=[y])
    if known.empty:
        return ""
    best = known.sort_values(y, kind="stable").to_dict("records")[0]
    who = best.pop("model", "the model") + (f" of {best.pop('study')}" if "study" in best else "")
    place = [_at(name, best[name]) for name in axes if name in best and not pd.isna(best[name])]
    return f"The lowest mean {words(y)} is {best[y]:.4g}, by {who}{' at ' + listed(place) if place else ''}."


def _at(axis: str, value: Any) -> str:
    return f"{words(axis)} {value:g}" if isinstance(value, float) else f"{words(axis)} {value}"


def _unsettled(results: pd.DataFrame) -> str:
    if DROP not in results or not results[DROP].notna().to_numpy().any():
        return "No learning curve is long enough to say whether its loss was still falling."
    count = len(falling(results))
    if not count:
        return f"No learning curve fell by more than {100 * STILL_FALLING:.0f} % over the last doubling of samples."
    every = len(trials(results))
    curves = plural(every, "learning curve")
    many = "All" if count == every > 1 else f"{count} of"
    verb = "was" if count == 1 else "were"
    return (
        f"{many} {curves} {verb} still falling by more than {100 * STILL_FALLING:.0f} % over the last doubling of "
        "samples: more training would lower these losses, and may change their order."
    )


def _group(entry: dict[str, Any], entries: Sequence[dict[str, Any]]) -> str:
    """An entry's group, of its other axes only those in which the entries differ."""
    seen = lambda name: {str(other["group"].get(name)) for other in entries}  # noqa: E731
    group = {
        name: value
        for name, value in entry["group"].items()
        if name in ("study", "model", "input_size") or len(seen(name)) > 1
    }
    return _place(group).removesuffix(": ") + ", " if group else ""


def _tuple(key: Any) -> tuple[Any, ...]:
    return key if isinstance(key, tuple) else (key,)
