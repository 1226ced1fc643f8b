"""What a set must turn out to be, checked before anything is trained on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from patchscale.data.image_set import IMAGENET_MEAN, IMAGENET_STD, Colour
from patchscale.data.spec import Split
from patchscale.errors import InputError


@dataclass(frozen=True)
class Expectation:
    """What a registered set must turn out to be.

    Attributes:
        name: the set's name.
        counts: images of each split; None: not checked.
        class_count: number of classes; None: not checked.
        mean: per-channel mean.
        std: per-channel standard deviation.
    """

    name: str
    counts: dict[str, int] | None = None
    class_count: int | None = None
    mean: Colour = IMAGENET_MEAN
    std: Colour = IMAGENET_STD

    def check(self, split: Split, images: int, classes: int, where: Path) -> None:
        """Compares what was found with the published numbers.

        Raises:
            InputError: they differ; the message has both.
        """
        want = self.counts[split] if self.counts else images
        want_classes = self.class_count or classes
        if (images, classes) != (want, want_classes):
            raise InputError(
                f"{self.name} has {want:,} images of {want_classes:,} classes in its {split} split, but {where} holds "
                f"{images:,} images of {classes:,} classes; complete the copy, or give the directory itself as the "
                "data name to use it as it is"
            )
