"""What is where in a scene, in whole units that no resolution changes: the shorter side is 4,096 units.

Everything here is a pure function of (seed, split, index, aspect ratio), in integer arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from patchscale.data._random import draw
from patchscale.data.scenes.vocabulary import COLOUR_NAMES, SHAPES, SIZES, TEXTURES

UNITS = 4096
MOST_OBJECTS = 6
# Radii in units: three ranges far enough apart that the words for them are plain.
_RADII = {"small": (256, 370), "medium": (500, 640), "large": (930, 1140)}
# Rotations as (a, b, c) with a^2 + b^2 = c^2: exact in integers; at most 16 degrees, so a square stays a square.
_TURNS = ((1, 0, 1), (24, 7, 25), (24, -7, 25), (40, 9, 41), (40, -9, 41))
_GRID = 64
_TRIES = 6
_VISIBLE_PERCENT = 60


@dataclass(frozen=True)
class SceneObject:
    """One object: its words and its exact place.

    Attributes:
        shape: position in `SHAPES`.
        colour: position in `COLOUR_NAMES`.
        texture: position in `TEXTURES`.
        size: position in `SIZES`.
        row: centre, units from the top.
        column: centre, units from the left.
        radius: units from the centre to the farthest point before turning, about.
        turn: rotation (a, b, c): cosine a/c, sine b/c.
        period: of the texture, units.
        phase: of the texture, units (rows, columns).
    """

    shape: int
    colour: int
    texture: int
    size: int
    row: int
    column: int
    radius: int
    turn: tuple[int, int, int]
    period: int
    phase: tuple[int, int]

    @property
    def words(self) -> tuple[str, str, str, str]:
        """(size, colour, texture, shape)."""
        return SIZES[self.size], COLOUR_NAMES[self.colour], TEXTURES[self.texture], SHAPES[self.shape]


@dataclass(frozen=True)
class Layout:
    """A scene before it is drawn.

    Attributes:
        objects: back to front; the first is the large one that decides the label.
        height: of the canvas, units.
        width: of the canvas, units.
        ground_texture: position in `TEXTURES`.
        ground_period: units.
        ground_light: True for a light grey ground, False for a dark one.
        noise_key: seeds the ground's blotches.
    """

    objects: tuple[SceneObject, ...]
    height: int
    width: int
    ground_texture: int
    ground_period: int
    ground_light: bool
    noise_key: int


class Words:
    """Random integers taken one after the other from a fixed block."""

    def __init__(self, *keys: int):
        self._bits = [int(value) for value in draw(*keys, np.arange(512))]
        self._next = 0

    def below(self, bound: int) -> int:
        """The next integer in 0 .. bound - 1."""
        value = ((self._bits[self._next] >> 32) * bound) >> 32
        self._next += 1
        return value

    def between(self, low: int, high: int) -> int:
        """The next integer in low .. high."""
        return low + self.below(high - low + 1)


def canvas_units(height: int, width: int) -> tuple[int, int]:
    """(height, width) of a canvas in units."""
    short = min(height, width)
    return UNITS * height // short, UNITS * width // short


def lay_out(seed: int, split: int, index: int, height: int, width: int) -> Layout:
    """The scene (seed, split, index) on a canvas of height x width units."""
    words = Words(0x5CE2E5, seed, split, index, height, width)
    ground = words.below(len(TEXTURES)), words.between(160, 900), bool(words.below(2)), words.below(2**31)
    main = _object(words, "large", words.between(1, len(TEXTURES) - 1), height, width)
    objects, grids = [main], [grid_mask(main, height, width)]
    for _ in range(words.between(1, MOST_OBJECTS - 1)):
        for _ in range(_TRIES):
            other = _object(words, SIZES[words.below(2)], words.below(len(TEXTURES)), height, width)
            mask = grid_mask(other, height, width)
            if _fits(other, mask, objects, grids):
                objects.append(other)
                grids.append(mask)
                break
    return Layout(tuple(objects), height, width, *ground)


def inside(item: SceneObject, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Which points an object covers, other objects aside.

    Args:
        item: the object.
        rows: int64 [h], units.
        columns: int64 [w], units.

    Returns:
        bool [h, w].
    """
    a, b, c = item.turn
    y, x = (rows - item.row)[:, None], (columns - item.column)[None, :]
    y, x = (a * y - b * x) // c, (a * x + b * y) // c
    r, shape = item.radius, SHAPES[item.shape]
    across, along = np.abs(x), np.abs(y)
    if shape == "disc":
        return x * x + y * y <= r * r
    if shape == "ring":
        distance = x * x + y * y
        return (distance <= r * r) & (4 * distance >= r * r)
    if shape == "square":
        return np.maximum(across, along) <= r * 13 // 16
    if shape == "cross":
        return (np.maximum(across, along) <= r * 15 // 16) & (np.minimum(across, along) <= r * 5 // 16)
    if shape == "star":
        return np.maximum(across, along) + 2 * np.minimum(across, along) <= r
    return (y <= r * 3 // 4) & (7 * across <= 4 * (y + r))  # triangle, tip up


def grid_mask(item: SceneObject, height: int, width: int) -> np.ndarray:
    """The points of a fixed coarse grid that an object covers, [g, k] bool: for deciding what hides what."""
    step = UNITS // _GRID
    return inside(item, np.arange(step // 2, height, step), np.arange(step // 2, width, step))


def _object(words: Words, size: str, texture: int, height: int, width: int) -> SceneObject:
    low, high = _RADII[size]
    radius = words.between(low, high)
    period = (radius * 2 // 5, radius // 3, radius // 4)[words.below(3)]
    return SceneObject(
        shape=words.below(len(SHAPES)),
        colour=words.below(len(COLOUR_NAMES)),
        texture=texture,
        size=SIZES.index(size),
        row=words.between(radius, height - radius),
        column=words.between(radius, width - radius),
        radius=radius,
        turn=_TURNS[words.below(len(_TURNS))],
        period=period,
        phase=(words.below(period), words.below(period)),
    )


def _fits(other: SceneObject, mask: np.ndarray, objects: list[SceneObject], grids: list[np.ndarray]) -> bool:
    """Whether `other` may be drawn on top: another name than all others, and all stay visible in good part."""
    if any((item.colour, item.shape) == (other.colour, other.shape) for item in objects):
        return False
    above = mask.copy()
    for grid in reversed(grids):
        if 100 * int((grid & ~above).sum()) < _VISIBLE_PERCENT * int(grid.sum()):
            return False
        above |= grid
    return True
