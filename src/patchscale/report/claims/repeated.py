"""How each promise of "Scaling Laws and Interpretability of Learning from Repeated Data" is answered.

Judged by `laws.repeated_data`, which a study's laws.json holds: harm against repeats of every model, in intervals that
hold for all repeats at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from patchscale.report.claims.ablations import seeds_of
from patchscale.report.claims.answer import FromTable, HeldByTest, Row, TooLarge, Verdict, together
from patchscale.report.claims.evidence import Evidence
from patchscale.report.claims.judges import at, gap, interval, short

HARMS: dict[str, Verdict] = {
    "peak": "reproduced",
    "rises": "not reproduced",
    "no harm seen": "inconclusive",
    "harm": "inconclusive",
    "undecided": "inconclusive",
}
"""What a model's curve of harm says of a worst number of repeats in between."""
CLIMB = 0.01
"""A test loss climbs on the way if it rises by more than this, and more than any clean trial's."""


def sweeps(evidence: Evidence) -> list[dict[str, Any]]:
    """The groups of laws.json's repeated data, such as augmentation on and off."""
    return evidence.laws.get("repeated_data", [])


def named(group: dict[str, Any], evidence: Evidence) -> str:
    """What sets a group apart from the others of its study, in a few words."""
    apart = {name: value for name, value in group.items() if name in evidence.separating}
    return " ".join(f"{name.rpartition('.')[2]} {value}" for name, value in apart.items())


def worst_in_between(evidence: Evidence) -> tuple[str, Verdict]:
    """Harm is worst at some R between the least and the most, model by model."""
    texts, verdicts = [], []
    for sweep in sweeps(evidence):
        for model in sweep["models"]:
            name = f"{named(sweep['group'], evidence)} {short(model['model'])}".strip()
            texts.append(f"{name}: {model['verdict']}, worst at R = {model['worst']}")
            verdicts.append(HARMS[model["verdict"]])
    return "; ".join(texts) or "no model was swept", together(verdicts) if verdicts else "inconclusive"


def climbs(evidence: Evidence) -> tuple[str, Verdict]:
    """Some repeated trials' test loss rises partway, more than any clean trial's."""
    rows = [row for sweep in sweeps(evidence) for row in sweep["rows"] if "rise" in row]
    clean = max((row["rise"] for row in rows if row["repeats"] == 1), default=0.0)
    repeated = [row for row in rows if row["repeats"] > 1]
    if not repeated:
        return "no repeated trial has test points on the way", "inconclusive"
    most = max(repeated, key=lambda row: row["rise"])
    text = f"largest mean rise {most['rise']:.3g} ({short(most['model'])}, R = {most['repeats']}), clean {clean:.3g}"
    return text, "reproduced" if most["rise"] > max(CLIMB, 2 * clean) else "inconclusive"


def remembered(evidence: Evidence) -> tuple[str, Verdict]:
    """What is remembered of the subset at the worst R: numbers for a hypothesis that they do not decide."""
    texts = []
    for sweep in sweeps(evidence):
        worst = {model["model"]: model["worst"] for model in sweep["models"]}
        for row in sweep["rows"]:
            if worst.get(row["model"]) == row["repeats"] and "repeated_loss" in row:
                name = f"{named(sweep['group'], evidence)} {short(row['model'])} R = {row['repeats']}".strip()
                texts.append(f"{name}: {row['repeated_loss']:.3g} against {row['unique_loss']:.3g}")
    return f"loss on repeated and on unique images at the worst R, {'; '.join(texts) or 'not there'}", "inconclusive"


def copying_suffers_more(evidence: Evidence) -> tuple[str, Verdict]:
    """At the R that is worst for copying its loss grows by a larger factor than that of the first saying."""
    texts, verdicts = [], []
    for name, clean, harmed in _worst_for_copying(evidence.table):
        copying, first = (_growth(clean, harmed, loss) for loss in ("copying_loss", "first_saying_loss"))
        found = interval([first[seed] - copying[seed] for seed in copying])
        losses = ", ".join(
            f"{words} {clean[loss].mean():.3g} to {harmed[loss].mean():.3g}"
            for words, loss in (("copying", "copying_loss"), ("first saying", "first_saying_loss"))
        )
        texts.append(f"{name}: {losses}; log of the factors, first less copying {found.text}")
        verdicts.append(found.below_zero())
    return f"loss in nats, {'; '.join(texts)}", together(verdicts)


def heads_suffer(evidence: Evidence) -> tuple[str, Verdict]:
    """At the R that is worst for copying, attention heads look less at the word to copy than without repetition."""
    texts, verdicts = [], []
    for name, clean, harmed in _worst_for_copying(evidence.table):
        found = gap(harmed, clean, "answer_prefix_matching")
        share = found.mean / float(np.mean(clean["answer_prefix_matching"]))
        texts.append(f"{name}: {100 * share:+.0f} %, {found.text}")
        verdicts.append(found.below_zero())
    return f"prefix matching on captions, mean over heads, {'; '.join(texts)}", together(verdicts)


def _worst_for_copying(table: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """Of every width that was trained at several R: its name with the worst R, rows at R = 1 and rows at that R."""
    for width in sorted(set(table["task.language_width"])):
        part = at(table, task__language_width=width)
        losses = {int(r): float(np.mean(at(part, data__repeats=r)["copying_loss"])) for r in part["data.repeats"]}
        clean = losses.pop(1, None)
        if clean is not None and losses:
            worst = max(losses, key=lambda repeats: losses[repeats])
            yield f"width {width}, R = {worst}", at(part, data__repeats=1), at(part, data__repeats=worst)


def _growth(clean: pd.DataFrame, harmed: pd.DataFrame, loss: str) -> dict[Any, float]:
    """Log of the factor by which a loss grows, by random seed."""
    before, after = dict(seeds_of(clean, loss)), dict(seeds_of(harmed, loss))
    return {seed: float(np.log(after[seed] / before[seed])) for seed in before if seed in after}


ROWS: dict[str, Row] = {
    "rep-design": HeldByTest(
        "repeated_data",
        "a fraction of the samples comes from a subset seen R times each, the rest once, for any model size",
        "tests/data/test_sampler.py::test_the_subset_is_seen_r_times_and_all_others_once",
    ),
    "rep-double": FromTable("repeated_data", worst_in_between),
    "rep-midway": FromTable("repeated_data", climbs),
    "rep-range": FromTable("repeated_data", worst_in_between),
    "rep-800m": TooLarge("repeated_data", "needs a language model of 800M parameters, its text and a GPU cluster"),
    "rep-memorize": FromTable("repeated_data", remembered),
    "rep-copying": FromTable("repeated_captions", copying_suffers_more),
    "rep-induction": FromTable("repeated_captions", heads_suffer),
}
