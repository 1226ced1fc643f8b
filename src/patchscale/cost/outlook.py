"""What is believed of a configuration that was not trained yet: a law, its covariance, and what the law does not know.

The logarithm of the error (or loss) is taken as Gaussian and linear in a few unknowns,

    log y = log law(x; theta) + laboratory + k log(1 / s) + [coarser start] m + model + noise

theta       the law's parameters, with the covariance of its fit
s, k        share of the published schedule that is trained; k = 0.14 +- 0.05: ViT-S/16 on ImageNet reaches over 76 % in
            90 epochs and 80 % in 300 ("Better plain ViT baselines", 2205.01580), ln(24 / 20) / ln(300 / 90) = 0.15
laboratory  0 +- 0.03 between a published result and another team's run of it; stated, not fitted. On other data than
            the law's 0 +- 0.5: only the order of the configurations is carried over
m           0 +- 0.05: weights moved from a coarser patch in place of the first stages; stated, not fitted
model       0 +- 0.05 for each way in which the model lies outside the law's data, shared by all its configurations;
            stated, not fitted
noise       the fit's residual scatter, of a table at least 0.1 % (stated)

so intervals, the chance of reaching a target, and what one more run would teach all follow from one covariance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from patchscale.cost.estimate import Cost
from patchscale.cost.published_law import AXES, MIXER, PARAMETERS, error_rate, load_published_law, log_gradient

SCHEDULE, SCHEDULE_DEVIATION = 0.14, 0.05
LABORATORY, OTHER_DATA, MOVED, OUTSIDE = 0.03, 0.5, 0.05, 0.05
ROUNDING = 1e-9
"""Added to the logarithm of a share that just reaches a target, which rounding must not let miss it."""
IMAGENET_IMAGES = 1_281_167
SAME_DATA = 0.05
"""Data sets within 5 % of ImageNet-1k's count are taken for it."""


@dataclass(frozen=True)
class Question:
    """A configuration as a law sees it.

    Attributes:
        cost: model, input and patch size.
        share: of the full schedule that is trained, above 0 and at most 1.
        start: `scratch` or `coarser`.
    """

    cost: Cost
    share: float = 1.0
    start: str = "scratch"


class LawView(Protocol):
    """What an outlook needs of a law."""

    quantity: str
    noise: float
    quantile: float
    covariance: np.ndarray

    def log_value(self, cost: Cost) -> tuple[float, np.ndarray]:
        """log y, and its gradient by the law's parameters."""
        ...

    def limits(self, cost: Cost) -> list[str]:
        """In which ways this lies outside the data behind the law; empty if inside."""
        ...


class PublishedLaw:
    """The kept joint law of the paper's ImageNet tables (`patchscale.cost.published_law`)."""

    quantity = "top1_error"

    def __init__(self) -> None:
        kept = load_published_law()
        self.values = np.array([kept["values"][name] for name in PARAMETERS])
        self.covariance = np.array(kept["covariance"])
        self.noise, self.quantile, self.ranges = kept["noise"], kept["quantile"], kept["ranges"]
        self.cells = {tuple(cell) for cell in kept["cells"]}

    def log_value(self, cost: Cost) -> tuple[float, np.ndarray]:
        """See `LawView`."""
        axes = np.array(list(self._axes(cost).values()))[:, None]
        return float(np.log(error_rate(*axes, *self.values))[0]), log_gradient(axes, self.values)[0]

    def limits(self, cost: Cost) -> list[str]:
        """See `LawView`."""
        side = round(math.sqrt(cost.input_size[0] * cost.input_size[1]))
        if (cost.model, side, cost.patch_size) in self.cells:
            return []
        found = []
        for name, value in self._axes(cost).items():
            low, high = self.ranges[name]
            if not low * 0.999 <= value <= high * 1.001:
                found.append(f"{name} {value:,.0f} outside the published {low:,.0f} to {high:,.0f}")
        if not any(cell[0] == cost.model for cell in self.cells):
            found.append(f"no published run of {cost.model}")
        elif not any(cell[:2] == (cost.model, side) for cell in self.cells):
            found.append(f"no published run of {cost.model} at {side} pixels")
        elif not found:
            found.append(f"patch {cost.patch_size} of {cost.model} at {side} pixels was not published")
        return found

    def _axes(self, cost: Cost) -> dict[str, float]:
        pixels = math.sqrt(cost.input_size[0] * cost.input_size[1])
        # the patch embedding's parameters are not capacity: as in the fit, count them at patch 16
        params = cost.params_without_positions - cost.shape.embed_dim * cost.in_chans * (cost.patch_size**2 - 16**2)
        params -= (cost.num_classes - 1000) * (cost.shape.embed_dim + 1)
        return dict(zip(AXES, (float(cost.tokens), float(params), pixels, MIXER[cost.shape.family]), strict=True))


@dataclass(frozen=True)
class Belief:
    """A prediction in the law's own quantity.

    Attributes:
        value: median.
        low, high: interval at the law's confidence for one more run.
        deviation: standard deviation of the logarithm without the noise of a single run.
        scatter: the same with it.
    """

    value: float
    low: float
    high: float
    deviation: float
    scatter: float

    def chance_below(self, target: float) -> float:
        """Probability that the run ends at or below `target`."""
        return 0.5 * (1 + math.erf((math.log(target) - math.log(self.value)) / (self.scatter * math.sqrt(2))))


class Outlook:
    """A law together with what it does not know.

    Args:
        law: the law.
        laboratory: deviation of the common offset; 0 for a law of the user's own runs.
    """

    def __init__(self, law: LawView, laboratory: float) -> None:
        self.law = law
        self._read: dict[tuple, tuple[float, np.ndarray, int]] = {}
        size = len(law.covariance)
        self.covariance = np.zeros((size + 3, size + 3))
        self.covariance[:size, :size] = law.covariance
        self.covariance[size:, size:] = np.diag([laboratory**2, SCHEDULE_DEVIATION**2, MOVED**2])

    def predict(self, question: Question) -> Belief:
        """Median and interval of one more run."""
        log_value, _, _ = self._law_at(question.cost)
        log_value += SCHEDULE * math.log(1 / question.share)
        variance = self._shared(question, question)
        scatter = math.sqrt(variance + self.law.noise**2)
        low, high = self.interval(math.exp(log_value), scatter)
        return Belief(math.exp(log_value), low, high, deviation=math.sqrt(variance), scatter=scatter)

    def share_reaching(self, target: float, cost: Cost, start: str) -> float:
        """The least share of the schedule with an even chance or better of reaching `target`; 1 if none has it.

        There the median meets the target. Longer schedules have better chances still: the median falls on below it, and
        the schedule's part of the scatter shrinks.
        """
        full = self.predict(Question(cost, 1.0, start)).value
        return math.exp(min(0.0, math.log(full / target) / SCHEDULE + ROUNDING))

    def interval(self, value: float, scatter: float) -> tuple[float, float]:
        """Around a median, at the law's confidence; an error rate ends at one."""
        reach = self.law.quantile * scatter
        most = 1.0 if self.law.quantity.endswith("_error") else math.inf
        return value * math.exp(-reach), min(most, value * math.exp(reach))

    def after(self, trial: Question, aim: Question) -> float:
        """Deviation of the logarithm at `aim` once `trial` has been run (a Gaussian update; no result is assumed)."""
        known = self._shared(trial, trial) + self.law.noise**2
        return math.sqrt(max(0.0, self._shared(aim, aim) - self._shared(trial, aim) ** 2 / known))

    def _shared(self, one: Question, other: Question) -> float:
        """Covariance of the logarithms of two runs, their own noise left out."""
        shared = float(self._gradient(one) @ self.covariance @ self._gradient(other))
        if one.cost.model == other.cost.model:
            shared += OUTSIDE**2 * min(self._law_at(one.cost)[2], self._law_at(other.cost)[2])
        return shared

    def _gradient(self, question: Question) -> np.ndarray:
        _, gradient, _ = self._law_at(question.cost)
        own = [1.0, math.log(1 / question.share), float(question.start == "coarser")]
        return np.concatenate([gradient, own])

    def _law_at(self, cost: Cost) -> tuple[float, np.ndarray, int]:
        """Log value, gradient and number of limits, each worked out once."""
        key = (cost.model, cost.input_size, cost.patch_size)
        if key not in self._read:
            self._read[key] = (*self.law.log_value(cost), len(self.law.limits(cost)))
        return self._read[key]

    def to_dict(self) -> dict[str, Any]:
        """What the intervals stand on."""
        return {
            "quantity": self.law.quantity,
            "noise": self.law.noise,
            "quantile": self.law.quantile,
            "laboratory_deviation": float(math.sqrt(self.covariance[-3, -3])),
            "schedule_exponent": [SCHEDULE, SCHEDULE_DEVIATION],
            "moved_deviation": MOVED,
            "outside_deviation": OUTSIDE,
        }


def published_outlook(data_size: int) -> tuple[Outlook, list[str]]:
    """The published law for a data set of `data_size` images, and what must be said of using it."""
    same = abs(math.log(data_size / IMAGENET_IMAGES)) <= SAME_DATA
    if same:
        return Outlook(PublishedLaw(), LABORATORY), []
    note = (
        f"the published law is of ImageNet-1k (1,281,167 images), not of your {data_size:,}: the order of the "
        "configurations is carried over, the values are not (intervals widened to say so); "
        "run a small patch-size study on your images and pass its results.csv as table"
    )
    return Outlook(PublishedLaw(), OTHER_DATA), [note]
