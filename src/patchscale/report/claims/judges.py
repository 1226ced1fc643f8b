"""How a result table is judged: paired differences over random seeds, 90 % intervals, never by eye.

Every judge takes one `Evidence` and returns what was measured, in words and numbers, and a verdict. A claim is
`reproduced` if the interval excludes zero on its side, `not reproduced` if it excludes zero on the other side, and
`inconclusive` otherwise; one random seed has no interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy import stats

from patchscale.report.claims.answer import Judge, Verdict, together
from patchscale.report.claims.evidence import Evidence

CONFIDENCE = 0.9
ALMOST_NOTHING = 0.25
"""An effect this small beside another counts as almost nothing: its interval ends below this share of the other."""


@dataclass(frozen=True)
class Gap:
    """A paired difference over random seeds; `low` and `high` are None with fewer than two pairs."""

    mean: float
    low: float | None
    high: float | None
    pairs: int

    @property
    def text(self) -> str:
        if self.low is None:
            return f"{self.mean:+.3g} ({self.pairs} random seed: no interval)"
        return f"{self.mean:+.3g} ({self.low:+.3g} to {self.high:+.3g})"

    def below_zero(self) -> Verdict:
        """Whether the difference is negative, as claimed."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "inconclusive"
        return "reproduced" if self.high < 0 else "not reproduced"


def gap(first: pd.DataFrame, second: pd.DataFrame, y: str) -> Gap:
    """`y` of the first rows minus that of the second, paired over random seeds (a row each)."""
    values = [dict(zip(part["random_seed"], part[y], strict=True)) for part in (first, second)]
    assert all(len(part) == len(value) for part, value in zip((first, second), values, strict=True)), "one row a seed"
    return interval([values[0][seed] - values[1][seed] for seed in values[0] if seed in values[1]])


def interval(differences: list[float]) -> Gap:
    """Mean and t interval of paired differences."""
    gaps = np.array(differences, dtype=float)
    if not len(gaps):
        raise ValueError("no random seed in common")
    mean = float(gaps.mean())
    if len(gaps) < 2:
        return Gap(mean, None, None, len(gaps))
    half = float(stats.t.ppf(0.5 + CONFIDENCE / 2, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps)))
    return Gap(mean, mean - half, mean + half, len(gaps))


def at(table: pd.DataFrame, **values: Any) -> pd.DataFrame:
    """Rows with these values; `task__decoder` is column `task.decoder`."""
    for name, value in values.items():
        table = cast(pd.DataFrame, table.loc[table[name.replace("__", ".")] == value])
    return table


def parts(evidence: Evidence, *without: str) -> list[tuple[str, pd.DataFrame]]:
    """The table's configurations apart from the axes named, each with a label."""
    names = [name for name in evidence.separating if name not in without]
    if not names:
        models = list(dict.fromkeys(evidence.table["model"]))
        return [(short(models[0]) if len(models) == 1 else "", evidence.table)]
    groups = evidence.table.groupby(names, sort=False)
    return [
        (" ".join(short(value) for value in (key if isinstance(key, tuple) else (key,))), part) for key, part in groups
    ]


def short(value: Any) -> str:
    """A model's name without the patch size that its axis gives."""
    return str(value).removesuffix("_patch16")


def refines(y: str = "test_loss", by: str = "patch_size", *, lower: bool = True, rising: bool = False) -> Judge:
    """Every step from one value of `by` to the next finer one lowers (or raises) `y`.

    Args:
        y: the quality.
        by: what is refined.
        lower: False for scores.
        rising: finer is larger (kept tokens), not smaller (patch sizes).
    """

    def judge(evidence: Evidence) -> tuple[str, Verdict]:
        texts, verdicts = [], []
        for name, part in parts(evidence, by):
            values = sorted(set(part[by]), reverse=not rising)
            steps = [_step(part, y, by, first, second, lower) for first, second in pairwise(values)]
            counts = {word: steps.count(word) for word in ("reproduced", "not reproduced", "inconclusive")}
            better = counts["reproduced"]
            texts.append(
                f"{name} {_levels(part, y, by, values)}: {better} of {len(steps)} steps better beyond the interval"
                + (f", {counts['inconclusive']} undecided" if counts["inconclusive"] else "")
                + (f", {counts['not reproduced']} worse" if counts["not reproduced"] else "")
            )
            verdicts += ["not reproduced"] if counts["not reproduced"] else steps
        return "; ".join(texts), "not reproduced" if "not reproduced" in verdicts else together(verdicts)

    return judge


def trend(
    y: str = "test_loss", by: str = "patch_size", *, lower: bool = True, rising: bool = False, family: str = ""
) -> Judge:
    """From the coarsest to the finest value that shares random seeds with it, `y` is lower (or higher)."""

    def judge(evidence: Evidence) -> tuple[str, Verdict]:
        texts, verdicts = [], []
        for name, part in parts(evidence, by):
            if family and not all(str(model).startswith(family) for model in part["model"]):
                continue
            values = sorted(set(part[by]), reverse=not rising)
            seeds = {value: set(at(part, **{by.replace(".", "__"): value})["random_seed"]) for value in values}
            shared = [
                value for value in values if len(seeds[value] & seeds[values[0]]) >= min(2, len(seeds[values[0]]))
            ]
            found = gap(
                at(part, **{by.replace(".", "__"): shared[-1]}), at(part, **{by.replace(".", "__"): shared[0]}), y
            )
            signed = found if lower else Gap(-found.mean, _minus(found.high), _minus(found.low), found.pairs)
            texts.append(f"{name} {_levels(part, y, by, values)}: {shared[0]:g} to {shared[-1]:g} {found.text}")
            verdicts.append(signed.below_zero())
        return "; ".join(texts), together(verdicts)

    return judge


def contrast(y: str, first: dict[str, Any], second: dict[str, Any], words: str, *, lower: bool = True) -> Judge:
    """`first` is better than `second` (both by column, values or the words `coarsest` and `finest`) in every group."""

    def judge(evidence: Evidence) -> tuple[str, Verdict]:
        texts, verdicts = [], []
        for name, part in parts(evidence, *(key.replace("__", ".") for key in {**first, **second})):
            found = gap(_chosen(part, first), _chosen(part, second), y)
            signed = found if lower else Gap(-found.mean, _minus(found.high), _minus(found.low), found.pairs)
            texts.append(f"{name}: {words} {found.text}".lstrip(": "))
            verdicts.append(signed.below_zero())
        return f"{y.replace('_', ' ')}, {'; '.join(texts)}", together(verdicts)

    return judge


def only(column: str, value: Any, judge: Judge) -> Judge:
    """A judge of the rows with this value alone."""
    return lambda evidence: judge(replace(evidence, table=at(evidence.table, **{column: value})))


def difference_of_gaps(
    y: str, gaps: Callable[[pd.DataFrame], tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, pd.DataFrame]], words: str
) -> Judge:
    """(a - b) - (c - d) is negative, paired over random seeds; `gaps` gives a, b, c and d."""

    def judge(evidence: Evidence) -> tuple[str, Verdict]:
        a, b, c, d = (dict(zip(part["random_seed"], part[y], strict=True)) for part in gaps(evidence.table))
        seeds = [seed for seed in a if all(seed in part for part in (b, c, d))]
        one, other = interval([a[s] - b[s] for s in seeds]), interval([c[s] - d[s] for s in seeds])
        found = interval([(a[s] - b[s]) - (c[s] - d[s]) for s in seeds])
        return f"{y.replace('_', ' ')}, {words}: {one.text} against {other.text}", found.below_zero()

    return judge


def _chosen(part: pd.DataFrame, wanted: dict[str, Any]) -> pd.DataFrame:
    for name, value in wanted.items():
        column = part[name.replace("__", ".")]
        value = (
            {"coarsest": column.max(), "finest": column.min()}.get(value, value) if isinstance(value, str) else value
        )
        part = at(part, **{name: value})
    return part


def _step(part: pd.DataFrame, y: str, by: str, first: Any, second: Any, lower: bool) -> Verdict:
    key = by.replace(".", "__")
    one, other = at(part, **{key: second}), at(part, **{key: first})
    if not set(one["random_seed"]) & set(other["random_seed"]):
        return "inconclusive"
    found = gap(one, other, y) if lower else gap(other, one, y)
    return found.below_zero()


def _levels(part: pd.DataFrame, y: str, by: str, values: list[Any]) -> str:
    means = [part.loc[part[by] == value, y].mean() for value in values]
    numbers = ", ".join(f"{mean:.4g}" for mean in means)
    return f"{y.replace('_', ' ')} {numbers} at {by.replace('_', ' ')} {', '.join(f'{value:g}' for value in values)}"


def _minus(value: float | None) -> float | None:
    return None if value is None else -value
