"""What `load` returns: labelled images that read as uint8 batches at one size.

Shape letters: n images in the set, B batch, C channels, H height, W width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

Indices = Tensor | np.ndarray | Sequence[int]
Colour = tuple[float, float, float]

IMAGENET_MEAN: Colour = (0.485, 0.456, 0.406)
IMAGENET_STD: Colour = (0.229, 0.224, 0.225)


def grey(value: float) -> Colour:
    """The same value for all three channels."""
    return value, value, value


class Crop(NamedTuple):
    """Random-resized crops of a batch: the crop of a row is a pure function of (seed, row, the image's index)."""

    seed: int
    first_row: int = 0
    """The batch's row that the first image read will take."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Range of the crop's area as a share of the image's."""


@dataclass(frozen=True)
class About:
    """What is known of a set besides its pixels.

    Attributes:
        name: the set's name, for tables and titles.
        split: "train" or "test".
        classes: class names in label order.
        labels: int64 [n].
        mean: per-channel mean of the training images, 0..1 scale.
        std: the same for the standard deviation.
        resample_note: what was done to bring the images to this size, one sentence.
        skipped: images left out because they cannot be read (policy "skip"), each with its reason.
        source: where the images were found.
    """

    name: str
    split: str
    classes: tuple[str, ...]
    labels: Tensor
    mean: Colour = IMAGENET_MEAN
    std: Colour = IMAGENET_STD
    resample_note: str = ""
    skipped: tuple[str, ...] = ()
    source: str = ""


class ImageSet(ABC):
    """Labelled images, all at one size; see `About` for the attributes that describe them.

    Attributes:
        input_size: (H, W) of every image that `read` returns.
        in_memory: True if the images were decoded once and are held as uint8.
    """

    in_memory: bool

    def __init__(self, about: About, input_size: tuple[int, int]):
        self.about = about
        self.input_size = input_size
        self.name, self.split = about.name, about.split
        self.classes, self.labels = about.classes, about.labels
        self.mean, self.std = about.mean, about.std
        self.resample_note, self.skipped, self.source = about.resample_note, about.skipped, about.source

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        height, width = self.input_size
        return f"{type(self).__name__}({self.name}, {self.split}, {len(self)} images of {height}x{width})"

    @abstractmethod
    def read(self, indices: Indices, crop: Crop | None = None) -> Tensor:
        """Reads images.

        Args:
            indices: positions in the set, [B].
            crop: None for the test view; otherwise sets read from disk return random-resized crops. Sets held in
                memory return the held image either way.

        Returns:
            uint8 [B, 3, H, W].
        """


class MemoryImages(ImageSet):
    """Images held decoded.

    Args:
        about: description.
        pixels: uint8 [m, C, H, W] with C of 1 or 3, possibly a read-only memory map.
        positions: int64 [n], which of the m images belong to the set; None: all.
    """

    in_memory = True

    def __init__(self, about: About, pixels: np.ndarray, positions: np.ndarray | None = None):
        super().__init__(about, (pixels.shape[2], pixels.shape[3]))
        assert pixels.dtype == np.uint8
        self.positions = np.arange(len(pixels)) if positions is None else positions
        assert len(self.positions) == len(about.labels)
        self.pixels = pixels

    def read(self, indices: Indices, crop: Crop | None = None) -> Tensor:
        """See `ImageSet.read`."""
        images = torch.from_numpy(self.pixels[self.positions[np.asarray(indices, dtype=np.int64)]])
        return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images
