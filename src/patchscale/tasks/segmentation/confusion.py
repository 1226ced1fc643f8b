"""Scores of a segmentation from one table of counts, exact however the pixels were divided.

Shape letters: K classes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from patchscale.data.masks import IGNORED


class ClassScore(NamedTuple):
    """How one class was found; None where no pixel decides."""

    iou: float | None
    accuracy: float | None
    share: float
    """Of the counted pixels, those that truly are of this class."""


def confusion(predicted: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Pixels of every true class (row) that were given every class (column); ignored ones are left out.

    Args:
        predicted: integers 0 .. K - 1, any shape.
        truth: uint8 of the same shape, classes or `IGNORED`.
        classes: K.

    Returns:
        int64 [K, K].
    """
    counted = truth != IGNORED
    pairs = truth[counted].long() * classes + predicted[counted].long()
    return torch.bincount(pairs, minlength=classes * classes).reshape(classes, classes)


def class_scores(table: Tensor) -> list[ClassScore]:
    """Intersection over union, accuracy and share of each class of a confusion table [K, K]."""
    hits, true, given = table.diagonal().tolist(), table.sum(1).tolist(), table.sum(0).tolist()
    total = max(1, sum(true))
    return [
        ClassScore(_ratio(hit, real + said - hit), _ratio(hit, real), real / total)
        for hit, real, said in zip(hits, true, given, strict=True)
    ]


def mean_scores(table: Tensor) -> dict[str, float]:
    """`miou`, `mean_accuracy` and `pixel_accuracy`, fractions.

    The mean IoU is over classes that occur in truth or prediction, the mean accuracy over classes that occur in truth;
    without any counted pixel all three are 0.
    """
    scores = class_scores(table)
    ious = [score.iou for score in scores if score.iou is not None]
    accuracies = [score.accuracy for score in scores if score.accuracy is not None]
    return {
        "miou": sum(ious) / max(1, len(ious)),
        "mean_accuracy": sum(accuracies) / max(1, len(accuracies)),
        "pixel_accuracy": int(table.diagonal().sum()) / max(1, int(table.sum())),
    }


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
