"""What a study of repeated data says: what each number of repeats R harms, whether one is worst, the model size that
the harm is worth, and whether the test loss rises on the way.

Hernandez et al., "Scaling Laws and Interpretability of Learning from Repeated Data" (2205.10487).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from patchscale.errors import InputError
from patchscale.laws.fitting import fit
from patchscale.laws.inversion import Inverse
from patchscale.laws.law import Law
from patchscale.laws.table import as_names, need_columns, numbers, split

CLEAN_SIZES = 4
"""Model sizes without repetition that a law is read backwards from, at least."""
KINDS = ("repeated", "unique")
REMEMBERED = tuple(f"{kind}_{score}" for kind in KINDS for score in ("loss", "changed_loss", "recall"))
"""Columns of what a model remembers; their means over random seeds are given where they are there."""
COPYING = ("first_saying_loss", "copying_loss", "prefix_matching", "answer_prefix_matching")
"""Columns of how a language model copies, likewise."""


class _Sweep(NamedTuple):
    """One model at several R, in random seeds that have them all."""

    model: str
    y: str
    size: float
    repeats: list[int]
    """Ascending, 1 (clean) first."""
    losses: np.ndarray
    """[seeds, repeats]."""

    def at_once(self, confidence: float) -> float | None:
        """Half the interval of a difference between two R over the seeds, wide enough for all differences to R = 1.

        The noise is what is left of all losses when the means of every seed, which cancel in a difference, and of every
        R are taken off; the width is Bonferroni's. None with one seed.
        """
        seeds, count = self.losses.shape
        freedom = (seeds - 1) * (count - 1)
        if not freedom:
            return None
        centred = self.losses - self.losses.mean(0)
        deviation = np.sqrt(((centred - centred.mean(1, keepdims=True)) ** 2).sum() / freedom)
        quantile = stats.t.ppf(1 - (1 - confidence) / (2 * (count - 1)), freedom)
        return float(quantile * deviation * np.sqrt(2 / seeds))

    def of_mean(self, place: int, confidence: float) -> float | None:
        """Half the interval of the mean loss at one R: here the seeds' own luck counts. None with one seed."""
        seeds = len(self.losses)
        if seeds < 2:
            return None
        deviation = self.losses[:, place].std(ddof=1)
        return float(stats.t.ppf(0.5 + confidence / 2, seeds - 1) * deviation / np.sqrt(seeds))


def repeated_data(
    table: pd.DataFrame,
    curves: pd.DataFrame,
    y: str = "test_loss",
    group: str | Sequence[str] = (),
    *,
    repeats: str = "data.repeats",
    model: str = "model",
    size: str = "params_without_positions",
    confidence: float = 0.9,
) -> list[dict[str, Any]]:
    """Harm against repeats for every model size.

    Args:
        table: one row a trial, with columns `model`, trial, random_seed, `repeats`, `size` and `y`.
        curves: test points of the trials, with columns trial, step and `y`.
        y: the loss.
        group: columns that separate sweeps of R, such as the fraction repeated.
        repeats: R; 1 is clean.
        model: what tells models of different size apart.
        size: of the model.
        confidence: of every interval.

    Returns:
        One JSON-able dict per group: "group", "y", "clean" (the law of y against size at R = 1, or None), "rows",
        "models" (one per model: "model", "worst" (R), "verdict" ("peak", "rises", "harm", "no harm seen",
        "undecided"), "sentence") and "notes". A row is a model at an R: "model", "size", "repeats", "seeds", "loss",
        "excess" over R = 1 with "excess_low" and "excess_high" (all of a model's hold at once), "effective_size"
        (where the clean law has this loss) with "effective_low", "effective_high" (uncertainty of law and loss, in
        quadrature) and "extrapolated", "rise" (the most that the test loss rose above an earlier test point), what is
        remembered and how it copies.

    Raises:
        InputError: a column is missing or holds what is not a number.
    """
    need_columns(table, [*as_names(group), model, "random_seed"])
    table = table.assign(**{name: numbers(table, name) for name in (repeats, size, y)})
    size_of = model.replace(".", "_").rpartition("_")[2]  # `width` of task.language_width
    names = [str(value) if model == "model" else f"{size_of} {value}" for value in table[model]]
    table = table.assign(named=names, rise=[_rise(curves, trial, y) for trial in table["trial"]])
    found = []
    for values, part in split(table, as_names(group)):
        clean, notes = _clean_law(part.loc[part[repeats] == 1], size, y, confidence)
        inverse = None if clean is None else Inverse(clean)
        rows, models = [], []
        for sweep in _sweeps(part, repeats, size, y):
            own = [
                {**_harm(sweep, place, confidence), **_effective(inverse, sweep, place, confidence)}
                for place in range(len(sweep.repeats))
            ]
            for row in own:
                alike = part.loc[(part["named"] == sweep.model) & (part[repeats] == row["repeats"])]
                means = alike.reindex(columns=["rise", *REMEMBERED, *COPYING]).mean()
                row |= {name: float(value) for name, value in means.items() if np.isfinite(value)}
            rows += own
            models.append({"model": sweep.model, **_verdict(sweep, own, confidence)})
        law = None if clean is None else clean.to_dict()
        found.append({"group": values, "y": y, "clean": law, "rows": rows, "models": models, "notes": notes})
    return found


def _sweeps(table: pd.DataFrame, repeats: str, size: str, y: str) -> list[_Sweep]:
    """Models with clean and repeating trials, in order of appearance."""
    found = []
    for model in dict.fromkeys(table["named"]):
        rows = table.loc[table["named"] == model]
        values = sorted(set(rows[repeats]))
        cells = dict(zip(zip(rows["random_seed"], rows[repeats], strict=True), rows[y], strict=True))
        seeds = [seed for seed in dict.fromkeys(rows["random_seed"]) if all((seed, value) in cells for value in values)]
        if values[0] == 1 and len(values) > 1 and seeds:
            losses = np.array([[cells[seed, value] for value in values] for seed in seeds])
            found.append(_Sweep(model, y, float(rows[size].iloc[0]), [int(value) for value in values], losses))
    return found


def _clean_law(clean: pd.DataFrame, size: str, y: str, confidence: float) -> tuple[Law | None, list[str]]:
    sizes = len(set(clean[size]))
    if sizes < CLEAN_SIZES:
        return None, [f"effective sizes need {CLEAN_SIZES} model sizes without repetition; {sizes} are finished"]
    try:
        return fit(clean, size, y, form="power_floor", confidence=confidence, bootstrap=0, held_out=False)[0], []
    except InputError as error:
        return None, [f"effective sizes: {error}"]


def _harm(sweep: _Sweep, place: int, confidence: float) -> dict[str, Any]:
    losses = sweep.losses[:, place]
    excess, half = float((losses - sweep.losses[:, 0]).mean()), sweep.at_once(confidence) if place else None
    return {
        "model": sweep.model,
        "size": sweep.size,
        "repeats": sweep.repeats[place],
        "seeds": len(losses),
        "loss": float(losses.mean()),
        "excess": excess,
        "excess_low": None if half is None else excess - half,
        "excess_high": None if half is None else excess + half,
    }


def _effective(inverse: Inverse | None, sweep: _Sweep, place: int, confidence: float) -> dict[str, Any]:
    loss, half = float(sweep.losses[:, place].mean()), sweep.of_mean(place, confidence)
    read = {"value": None, "extrapolated": None} if inverse is None else inverse(loss)
    low = high = None
    if inverse is not None and read["value"] is not None and half is not None:
        ends = [inverse.value(loss + half), inverse.value(loss - half)]
        low, high = (_joined(read["value"], *pair) for pair in zip((read["low"], read["high"]), ends, strict=True))
    return {
        "effective_size": read["value"],
        "effective_low": low,
        "effective_high": high,
        "extrapolated": read["extrapolated"],
    }


def _joined(value: float, end: float | None, other: float | None) -> float | None:
    """Both ends' distances from `value`, on a logarithmic axis, in quadrature; None where either is open."""
    if end is None or other is None:
        return None
    return value * float(np.exp(np.sign(np.log(end / value)) * np.hypot(np.log(end / value), np.log(other / value))))


def _rise(curves: pd.DataFrame, trial: str, y: str) -> float:
    """The most that a trial's test loss rises above an earlier test point."""
    losses = curves.loc[curves["trial"] == trial].sort_values("step")[y].to_numpy(dtype=float)
    return float((losses - np.minimum.accumulate(losses)).max()) if len(losses) else float("nan")


def _verdict(sweep: _Sweep, rows: list[dict[str, Any]], confidence: float) -> dict[str, Any]:
    """Whether some R is worst, with less harm on both sides of it."""
    worst, last = max(rows[1:], key=lambda row: row["excess"]), rows[-1]
    fall, half = worst["loss"] - last["loss"], sweep.at_once(confidence)
    text = f"{sweep.model}: {worst['repeats']:,} repeats are worst, {sweep.y.replace('_', ' ')} {worst['excess']:+.4f}"
    if half is None:
        sentence = f"{text} (one random seed: no interval).{_worth(worst)}"
        return {"worst": worst["repeats"], "verdict": "undecided", "sentence": sentence}
    text += f" ({100 * confidence:g} % interval {worst['excess_low']:+.4f} to {worst['excess_high']:+.4f})"
    less = f"{fall:.4f} (± {half:.4f}) less at {last['repeats']:,}"
    if worst["excess_low"] <= 0:
        verdict, words = "no harm seen", "the interval holds zero, so no harm is seen"
    elif worst is last:
        verdict, words = "rises", "the harm still rises at the most repeats"
    elif fall > half:
        verdict, words = "peak", f"a peak, with {less}"
    else:
        verdict, words = "harm", f"no peak is seen, with only {less}"
    return {"worst": worst["repeats"], "verdict": verdict, "sentence": f"{text}: {words}.{_worth(worst)}"}


def _worth(row: dict[str, Any]) -> str:
    if row["effective_size"] is None:
        return ""
    low, high = (
        "no end" if row[end] is None else f"{row[end] / row['size']:.2f}" for end in ("effective_low", "effective_high")
    )
    outside = ", extrapolated" if row["extrapolated"] else ""
    share = row["effective_size"] / row["size"]
    return f" It is worth a clean model of {share:.2f} times its size ({low} to {high}{outside})."
