"""Laws read backwards: how large a model, or how many samples, would reach this loss?"""

from __future__ import annotations

from typing import Any

import numpy as np

from patchscale.errors import InputError
from patchscale.laws.law import Law


def equivalent(
    law: Law, y: float, axis: str | None = None, *, at: dict[str, float] | None = None, reach: float = 100.0
) -> dict[str, Any]:
    """Where along one axis the law has the value `y`.

    With a law of loss against params from clean runs, `equivalent(law, loss_of_a_run)` is the run's effective model
    size (Hernandez et al. 2205.10487); against samples, its effective data.

    Args:
        law: a fitted law.
        y: the metric's value.
        axis: which axis to solve for; may be left out for laws of one axis.
        at: values of the other axes.
        reach: how far beyond the measured range to look, as a factor.

    Returns:
        JSON-able: "value" (None if the law does not reach y), "low", "high" (None where the interval has no end within
        reach), "extrapolated", "sentence". The interval ends where the ends of the mean band have
        that value, so it is None on a side where they never do.

    Raises:
        InputError: unknown axis, or a value for another axis is missing.
    """
    return Inverse(law, axis, at=at, reach=reach)(y)


class Inverse:
    """A law read backwards along one axis; its band is computed once, however many values are looked for.

    Arguments and errors are those of `equivalent`.
    """

    def __init__(
        self, law: Law, axis: str | None = None, *, at: dict[str, float] | None = None, reach: float = 100.0
    ) -> None:
        axis = axis or (law.x[0] if len(law.x) == 1 else "")
        if axis not in law.x:
            raise InputError(f"axis {axis!r} is none of the law's: {', '.join(law.x)}")
        others = {name: (at or {}).get(name) for name in law.x if name != axis}
        missing = [name for name, value in others.items() if value is None]
        if missing:
            raise InputError(f"the law also depends on {', '.join(missing)}; give their values in at={{...}}")
        self.law, self.axis = law, axis
        self.start, self.stop = law.x_range[law.x.index(axis)]
        self.places = np.geomspace(self.start / reach, self.stop * reach, 201)
        query = {axis: self.places, **{name: np.full(len(self.places), value) for name, value in others.items()}}
        self.curve = law.predict(query)
        self.low, self.high = law.band(query)

    def value(self, y: float) -> float | None:
        """Where the law has the value `y`; None if it does not reach it."""
        return _cross(self.places, self.curve - y)

    def __call__(self, y: float) -> dict[str, Any]:
        """See `equivalent`."""
        value = self.value(y)
        ends = [_cross(self.places, self.low - y), _cross(self.places, self.high - y)]
        if self.curve[-1] > self.curve[0]:
            ends.reverse()
        outside = value is None or not self.start <= value <= self.stop
        return {
            "axis": self.axis,
            "y": float(y),
            "value": value,
            "low": ends[0],
            "high": ends[1],
            "extrapolated": outside,
            "sentence": _sentence(self.law, self.axis, y, value, ends, outside),
        }


def _cross(places: np.ndarray, gap: np.ndarray) -> float | None:
    gap = np.clip(gap, -1e300, 1e300)
    change = np.flatnonzero(np.sign(gap[:-1]) * np.sign(gap[1:]) <= 0)
    if not len(change):
        return None
    index = int(change[0])
    share = gap[index] / (gap[index] - gap[index + 1]) if gap[index] != gap[index + 1] else 0.0
    return float(np.exp(np.log(places[index]) + share * np.log(places[index + 1] / places[index])))


def _sentence(law: Law, axis: str, y: float, value: float | None, ends: list[float | None], outside: bool) -> str:
    if value is None:
        return f"The law does not reach {law.y} = {y:.4g} along {axis}."
    words = " to ".join("no end" if end is None else f"{end:.4g}" for end in ends)
    text = f"{law.y} = {y:.4g} corresponds to {axis} = {value:.4g} ({100 * law.confidence:g} % interval {words})"
    return text + (", outside the measured range: an extrapolation." if outside else ".")
