"""A scene with everything that is known about it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from patchscale.data.scenes.language import Question, caption, dense_caption, questions
from patchscale.data.scenes.layout import Layout, SceneObject, Words, canvas_units, lay_out
from patchscale.data.scenes.render import render, render_image
from patchscale.data.scenes.vocabulary import label_of
from patchscale.data.spec import Split
from patchscale.errors import InputError

_SPLIT_KEY = {"train": 0, "test": 1}
SMALLEST = 8


@dataclass(frozen=True)
class Scene:
    """One image and what is in it; H x W pixels, n visible objects.

    The label is decided by the one large object at two spatial scales: its shape (6, seen from afar: a quarter of the
    shorter side in radius) and its texture (4, a fine detail: a period of 1/18 to 1/9 of the shorter side), 24 classes.
    The ground and the other objects carry textures of the same kinds, so the texture must be read where the shape is.
    A model that sees only the shape reaches 1/4 top-1. At 32 pixels the finest periods are near 2 pixels, at 224 near
    12: how much of the texture survives depends on input size, and how easily it is read on patch size.

    Attributes:
        image: uint8 [H, W, 3].
        label: position in `CLASSES`.
        semantic: uint8 [H, W], positions in `SEMANTIC_CLASSES` (0 is ground).
        instances: uint8 [H, W], 0 ground, k the k-th of `objects` (from 1); only visible parts.
        objects: visible objects, the large one first.
        boxes: int64 [n, 4], x0, y0, x1, y1 of the visible part, x1 and y1 excluded.
        caption: one sentence.
        dense_caption: one sentence for each visible object.
        questions: pointed questions with their answers.
        layout: the exact description.
    """

    image: np.ndarray
    label: int
    semantic: np.ndarray
    instances: np.ndarray
    objects: tuple[SceneObject, ...]
    boxes: np.ndarray
    caption: str
    dense_caption: str
    questions: tuple[Question, ...]
    layout: Layout

    @property
    def masks(self) -> np.ndarray:
        """Visible part of each object, bool [n, H, W]."""
        return self.instances[None] == np.arange(1, len(self.objects) + 1)[:, None, None]


def scene(index: int, size: tuple[int, int], *, seed: int = 0, split: Split = "train") -> Scene:
    """Scene number `index`: a pure function of the arguments, equal bytes on every machine.

    The same (seed, split, index) at another resolution of the same aspect ratio shows the same scene.

    Args:
        index: 0, 1, 2, ... without end.
        size: (H, W), each at least 8 pixels.
        seed: random seed.
        split: train and test scenes never share a random number.

    Raises:
        InputError: the canvas is smaller than 8 pixels, or the index negative.
    """
    height, width = size
    layout = _layout(index, size, seed, split)
    image, owners = render(layout, height, width)
    seen = np.unique(owners[owners > 0])
    instances = np.searchsorted(np.concatenate([[0], seen]), owners).astype(np.uint8)
    objects = tuple(layout.objects[number - 1] for number in seen.tolist())
    boxes = np.array([_box(instances == number) for number in range(1, len(objects) + 1)], dtype=np.int64)
    shapes = np.array([0, *(item.shape + 1 for item in objects)], dtype=np.uint8)
    return Scene(
        image=image,
        label=label_of(objects[0].shape, objects[0].texture),
        semantic=shapes[instances],
        instances=instances,
        objects=objects,
        boxes=boxes,
        caption=caption(objects, layout),
        dense_caption=dense_caption(objects, boxes, layout),
        questions=questions(objects, boxes, width, Words(0xA5C, seed, _SPLIT_KEY[split], index)),
        layout=layout,
    )


def labelled_image(
    index: int, size: tuple[int, int], *, seed: int = 0, split: Split = "train"
) -> tuple[np.ndarray, int]:
    """Image and label of `scene` with the same arguments, in less than half the time."""
    layout = _layout(index, size, seed, split)
    main = layout.objects[0]
    return render_image(layout, *size), label_of(main.shape, main.texture)


def scenes(size: tuple[int, int], *, seed: int = 0, split: Split = "train", start: int = 0) -> Iterator[Scene]:
    """Scenes `start`, `start + 1`, ... without end; see `scene`."""
    return (scene(index, size, seed=seed, split=split) for index in itertools.count(start))


def _layout(index: int, size: tuple[int, int], seed: int, split: Split) -> Layout:
    if min(size) < SMALLEST or index < 0:
        raise InputError(
            f"scenes: cannot draw scene {index} at {size[0]}x{size[1]}; "
            f"use an index from 0 and sides of at least {SMALLEST}"
        )
    return lay_out(seed, _SPLIT_KEY[split], index, *canvas_units(*size))


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
