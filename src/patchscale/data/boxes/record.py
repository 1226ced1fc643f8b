"""One annotated image, and what to do with an annotation that cannot be used.

Shape letters: n objects of one image, H height, W width, in pixels of the image on disk.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from patchscale.errors import InputError

BORDER = 1.0
"""Pixels by which a box may reach over the image's border, as rounding does; such boxes are clipped."""


@dataclass(frozen=True)
class Record:
    """What is known of one image.

    Attributes:
        name: how to call the image in tables and errors.
        image_id: its number in a COCO file.
        height: H.
        width: W.
        boxes: float64 [n, 4], x0, y0, x1, y1; never empty, never outside.
        labels: int64 [n], positions in the set's classes.
        crowd: bool [n]; crowds (and objects marked difficult) are not trained on, and ignored when scoring.
        areas: float64 [n], pixels of the mask, or of the box where there are no masks.
        masks: n compressed run-length masks of H x W as pycocotools has them; None if the set has boxes only.
    """

    name: str
    image_id: int
    height: int
    width: int
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    masks: tuple[dict[str, Any], ...] | None


@dataclass
class Objects:
    """The objects of one image while a file is read."""

    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    masks: list[dict[str, Any]] = field(default_factory=list)

    def record(self, name: str, image_id: int, size: tuple[int, int], with_masks: bool) -> Record:
        """These objects as the record of an image of (H, W)."""
        return Record(
            name,
            image_id,
            *size,
            boxes=np.asarray(self.boxes, dtype=np.float64).reshape(-1, 4),
            labels=np.asarray(self.labels, dtype=np.int64),
            crowd=np.asarray(self.crowd, dtype=bool),
            areas=np.asarray(self.areas, dtype=np.float64),
            masks=tuple(self.masks) if with_masks else None,
        )


@dataclass
class Problems:
    """The policy for annotations and images that cannot be used: stop at the first, or leave out and count.

    Attributes:
        policy: `DataSpec.bad_images`.
        reasons: what was left out and why, one line each.
    """

    policy: Literal["fail", "skip"]
    reasons: list[str] = field(default_factory=list)

    def found(self, where: str, what: str) -> None:
        """Reports one problem.

        Raises:
            InputError: the policy is "fail".
        """
        if self.policy == "fail":
            raise InputError(
                f'{where}: {what}; correct or remove it, or set bad_images to "skip" to leave such out and count them'
            )
        self.reasons.append(f"{where}: {what}")

    def repeated(self, values: list[Any], where: str, what: str) -> None:
        """Raises InputError if a value occurs twice: nothing sensible can be left out then."""
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            raise InputError(f"{where}: {what} {twice[0]!r} occurs {Counter(values)[twice[0]]} times; make it unique")


def checked_box(
    box: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[tuple[float, float, float, float] | None, str]:
    """(the box clipped to an image of (H, W), ""), or (None, what is wrong with it)."""
    height, width = size
    x0, y0, x1, y1 = box
    shown = f"box x {x0:g} to {x1:g}, y {y0:g} to {y1:g}"
    if not np.isfinite(box).all():
        return None, f"{shown} is not finite"
    if x1 <= x0 or y1 <= y0:
        return None, f"{shown} has no area"
    if x0 < -BORDER or y0 < -BORDER or x1 > width + BORDER or y1 > height + BORDER:
        return None, f"{shown} reaches outside its image of {width}x{height} (width x height)"
    clipped = max(x0, 0.0), max(y0, 0.0), min(x1, float(width)), min(y1, float(height))
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        return None, f"{shown} lies outside its image of {width}x{height} (width x height)"
    return clipped, ""
