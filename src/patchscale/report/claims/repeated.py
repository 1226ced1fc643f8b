"""How each promise of "Scaling Laws and Interpretability of Learning from Repeated Data" is answered.

Judged by `laws.repeated_data`, which a study's laws.json holds: harm against repeats of every model, in intervals that
hold for all repeats at once.
"""

from __future__ import annotations

from typing import Any

from patchscale.report.claims.answer import FromTable, HeldByTest, NotYet, Row, TooLarge, Verdict, together
from patchscale.report.claims.evidence import Evidence
from patchscale.report.claims.judges import short

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


def named(group: dict[str, Any]) -> str:
    """A group in a few words."""
    return " ".join(f"{name.rpartition('.')[2]} {value}" for name, value in group.items())


def worst_in_between(evidence: Evidence) -> tuple[str, Verdict]:
    """Harm is worst at some R between the least and the most, model by model."""
    texts, verdicts = [], []
    for sweep in sweeps(evidence):
        for model in sweep["models"]:
            name = f"{named(sweep['group'])} {short(model['model'])}".strip()
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
        for model in sweep["models"]:
            for row in sweep["rows"]:
                if (row["model"], row["repeats"]) == (model["model"], model["worst"]) and "repeated_loss" in row:
                    losses = f"{row['repeated_loss']:.3g} against {row['unique_loss']:.3g}"
                    texts.append(
                        f"{named(sweep['group'])} {short(row['model'])} R = {row['repeats']}: {losses}".strip()
                    )
    return f"loss on repeated and on unique images at the worst R, {'; '.join(texts) or 'not there'}", "inconclusive"


LANGUAGE = "copying is asked of a language model, and no preset asks it yet"

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
    "rep-copying": NotYet("repeated_data", LANGUAGE),
    "rep-induction": NotYet("repeated_data", LANGUAGE),
}
