"""What `load_captions` returns: images with exchanges. Shape letters: B batch, H height, W width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from patchscale.data.captions.exchange import Exchange, vocabulary
from patchscale.data.decode import centre_view, open_image
from patchscale.data.image_set import IMAGENET_MEAN, IMAGENET_STD, Colour, Indices


@dataclass
class CaptionSet:
    """Images of one split and what is said about each.

    Attributes:
        name: for tables and titles.
        exchanges: of each image, in order.
        pixels: uint8 [n, 3, H, W] of sets held in memory, or none.
        files: of sets read from disk.
        size: (H, W) of the images that `read` returns.
        resample: filter for files.
        mean: of the training images, per channel.
        std: the same.
        least: occurrences that bring a word into the vocabulary.
    """

    name: str
    exchanges: Sequence[tuple[Exchange, ...]]
    size: tuple[int, int]
    pixels: np.ndarray | None = None
    files: Sequence[Path] = ()
    resample: str = "bicubic"
    mean: Colour = IMAGENET_MEAN
    std: Colour = IMAGENET_STD
    least: int = field(default=1)

    def __len__(self) -> int:
        return len(self.exchanges)

    @property
    def in_memory(self) -> bool:
        """Whether images need no decoding."""
        return self.pixels is not None

    @cached_property
    def vocabulary(self) -> tuple[str, ...]:
        """Words of all exchanges; see `vocabulary`."""
        return vocabulary((one for image in self.exchanges for one in image), self.least)

    def read(self, indices: Indices) -> Tensor:
        """uint8 [B, 3, H, W]: whole canvases of generated sets, the centre view of files.

        Raises:
            InputError: a file that is not a whole image.
        """
        chosen = np.asarray(indices, dtype=np.int64)
        if self.pixels is not None:
            return torch.from_numpy(self.pixels[chosen])
        views = [self._view(self.files[number]) for number in chosen.tolist()]
        return torch.from_numpy(np.stack(views))

    def _view(self, file: Path) -> np.ndarray:
        return centre_view(open_image(file.read_bytes(), str(file)), self.size, self.resample)
