"""What a row of the claims page is answered with, and the ways in which a row can be answered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import pandas as pd

from patchscale.report.claims.evidence import SCALES, Evidence

Verdict = Literal["reproduced", "not reproduced", "inconclusive", "not testable at this scale", "not measured yet"]
VERDICTS: tuple[Verdict, ...] = (
    "reproduced",
    "not reproduced",
    "inconclusive",
    "not testable at this scale",
    "not measured yet",
)


@dataclass(frozen=True)
class Answer:
    """What was found.

    Attributes:
        measured: our value in words and numbers, computed.
        verdict: one of `VERDICTS`.
        scale: where: a study's scale, `counted`, `configuration`, `test`, or `none`.
        evidence: folders of results, a recipe, a function or a test.
    """

    measured: str
    verdict: Verdict
    scale: str
    evidence: str


Judge = Callable[[Evidence], tuple[str, Verdict]]


@dataclass(frozen=True)
class FromTable:
    """Answered by committed tables of a study: those of its strongest scale, judged one by one.

    Attributes:
        study: the preset.
        judge: text and verdict of one table.
        needs: whether a table can be judged at all (default: any).
        how: the command that measures it, where the preset's name alone does not say so.
    """

    study: str
    judge: Judge
    needs: Callable[[pd.DataFrame], bool] = lambda table: True
    how: str = ""

    def answer(self, results: Sequence[Evidence]) -> Answer:
        usable = [one for one in results if one.study == self.study and self.needs(one.table)]
        if not usable:
            return Answer(f"not measured yet: study {self.how or self.study}", "not measured yet", "none", "")
        strongest = max(SCALES.index(one.scale) for one in usable)
        chosen = [one for one in usable if SCALES.index(one.scale) == strongest]
        judged = [(one, *self.judge(one)) for one in chosen]
        text = "; ".join(f"{one.data}: {words}" for one, words, _ in judged)
        return Answer(
            text,
            together([verdict for _, _, verdict in judged]),
            SCALES[strongest],
            ", ".join(f"results/{one.place}" for one, _, _ in judged),
        )


@dataclass(frozen=True)
class AllOf:
    """A claim about several studies: reproduced only if every one of them says so."""

    parts: tuple[FromTable, ...]

    @property
    def study(self) -> str:
        return "; ".join(dict.fromkeys(part.study for part in self.parts))

    def answer(self, results: Sequence[Evidence]) -> Answer:
        found = [part.answer(results) for part in self.parts]
        scales = [answer.scale for answer in found if answer.scale != "none"]
        text = " | ".join(answer.measured for answer in found)
        evidence = ", ".join(dict.fromkeys(answer.evidence for answer in found if answer.evidence))
        verdict = together([answer.verdict for answer in found])
        return Answer(text, verdict, min(scales, key=SCALES.index) if scales else "none", evidence)


@dataclass(frozen=True)
class Counted:
    """Answered by arithmetic: shapes, recipes, published numbers; no result table enters."""

    study: str
    judge: Callable[[], tuple[str, Verdict]]
    scale: str = "counted"
    evidence: str = "patchscale.cost"

    def answer(self, results: Sequence[Evidence]) -> Answer:
        text, verdict = self.judge()
        return Answer(text, verdict, self.scale, self.evidence)


@dataclass(frozen=True)
class HeldByTest:
    """A promise of software, kept if a test holds it; `what` is said in the present tense."""

    study: str
    what: str
    test: str

    def answer(self, results: Sequence[Evidence]) -> Answer:
        return Answer(self.what, "reproduced", "test", self.test)


@dataclass(frozen=True)
class TooLarge:
    """What needs hardware, data or weights that are not here; `cost` counts how much."""

    study: str
    why: str
    cost: Callable[[], str] | None = None

    def answer(self, results: Sequence[Evidence]) -> Answer:
        text = self.why + (f"; {self.cost()}" if self.cost else "")
        return Answer(text, "not testable at this scale", "none", "patchscale.cost" if self.cost else "")


@dataclass(frozen=True)
class NotYet:
    """Nothing here measures it."""

    study: str
    why: str

    def answer(self, results: Sequence[Evidence]) -> Answer:
        return Answer(f"not measured yet: {self.why}", "not measured yet", "none", "")


Row = FromTable | AllOf | Counted | HeldByTest | TooLarge | NotYet


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict of several: their own if they agree; a part not measured leaves it open; else inconclusive."""
    if len(set(verdicts)) == 1:
        return verdicts[0]
    return "not measured yet" if set(verdicts) <= {"not measured yet"} else "inconclusive"
