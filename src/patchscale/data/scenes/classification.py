"""Scenes as a classification set."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from patchscale.data import cache
from patchscale.data.decode import worker_threads
from patchscale.data.image_set import About, MemoryImages
from patchscale.data.progress import counted
from patchscale.data.scenes.scene import labelled_image
from patchscale.data.scenes.vocabulary import CLASSES
from patchscale.data.spec import DataSpec, Split

TRAIN_SIZE, TEST_SIZE = 8192, 2048


def load_scenes(spec: DataSpec, split: Split, input_size: tuple[int, int]) -> MemoryImages:
    """The first scenes of a split, drawn once and kept in the cache; see `Scene` for what decides the label."""
    count = spec.generated_size(split, TRAIN_SIZE if split == "train" else TEST_SIZE)

    def make(folder: Path) -> dict:
        pixels = np.lib.format.open_memmap(folder / "pixels.npy", "w+", np.uint8, (count, 3, *input_size))

        def draw_one(index: int) -> int:
            image, label = labelled_image(index, input_size, seed=spec.data_seed, split=split)
            pixels[index] = image.transpose(2, 0, 1)
            return label

        with ThreadPoolExecutor(worker_threads()) as pool:
            labels = list(counted(pool.map(draw_one, range(count)), count, "drawing scenes"))
        pixels.flush()
        return {"labels": labels}

    key = cache.key_of([], kind="scenes", seed=spec.data_seed, split=split, count=count, size=input_size)
    entry, facts = cache.entry(key, make)
    about = About(
        name="scenes",
        split=split,
        classes=CLASSES,
        labels=torch.tensor(facts["labels"], dtype=torch.int64),
        mean=(0.48, 0.46, 0.46),
        std=(0.21, 0.2, 0.215),
        source="generated",
        resample_note=f"drawn at {input_size[0]}x{input_size[1]}",
    )
    return MemoryImages(about, np.load(entry / "pixels.npy", mmap_mode="r"))
