"""Grids of coloured glyphs: every cell's colour is drawn evenly, so an image is worth cells^2 log2(colours) bits.

Shapes vary too but are never asked for. Everything is a pure function of (data_seed, split, image). Shape letters: n
images, K cells a side, H height, W width.
"""

from __future__ import annotations

import numpy as np

from patchscale.data._random import below, draw
from patchscale.data.captions.caption_set import CaptionSet
from patchscale.data.captions.exchange import Exchange
from patchscale.data.scenes.language import NUMBERS
from patchscale.data.scenes.layout import SceneObject, inside
from patchscale.data.scenes.vocabulary import COLOUR_NAMES, COLOURS, SHAPES
from patchscale.data.spec import DataSpec, Split
from patchscale.errors import InputError

_SPLIT_KEY = {"train": 0, "test": 1}
_GROUND = 24
_UNITS = 1024
ORDER = (0, 3, 5, 2, 7, 4, 6, 1)
"""Positions in `COLOUR_NAMES`, those that are told apart most easily first: red, green, blue, yellow, ..."""


def load_glyphs(spec: DataSpec, split: Split, count: int, size: tuple[int, int]) -> CaptionSet:
    """`count` grids of `spec.cells` x `spec.cells` glyphs in `spec.colours` colours.

    Raises:
        InputError: cells of fewer than 4 pixels.
    """
    cells, height, width = spec.cells, *size
    rows, columns = height // cells, width // cells
    if min(rows, columns) < 4:
        raise InputError(f"glyphs: {cells} cells on {height}x{width} pixels leave less than 4 each; use larger images")
    bits = draw(0x617F, spec.data_seed, _SPLIT_KEY[split], np.arange(count)[:, None], np.arange(cells**2))
    colours = below(draw(bits, 0), spec.colours)
    shapes = below(draw(bits, 1), len(SHAPES))
    side = max(3, min(rows, columns) * 3 // 4)
    masks = _masks(side)
    palette = np.array([COLOURS[name] for name in _names(spec.colours)], dtype=np.uint8)
    pixels = np.full((count, 3, height, width), _GROUND, dtype=np.uint8)
    down, right = below(draw(bits, 2), rows - side + 1), below(draw(bits, 3), columns - side + 1)
    image = np.arange(count)[:, None, None]
    for cell in range(cells**2):
        top, left = cell // cells * rows + down[:, cell], cell % cells * columns + right[:, cell]
        y = top[:, None, None] + np.arange(side)[:, None]
        x = left[:, None, None] + np.arange(side)
        shown = masks[shapes[:, cell]]
        for channel in range(3):
            colour = palette[colours[:, cell], channel][:, None, None]
            pixels[image, channel, y, x] = np.where(shown, colour, _GROUND)
    exchanges = [
        _exchanges(row, spec.colours, int(key)) for row, key in zip(colours, below(bits[:, 0], 2**31), strict=True)
    ]
    return CaptionSet("glyphs", exchanges, size, pixels, mean=(0.27, 0.27, 0.25), std=(0.3, 0.28, 0.3))


def cell_name(cell: int, cells: int) -> str:
    """Column letter and row number as one word: "a1", "b1", ..."""
    return f"{chr(ord('a') + cell % cells)}{cell // cells + 1}"


def _names(colours: int) -> list[str]:
    return [COLOUR_NAMES[position] for position in ORDER[:colours]]


def _masks(side: int) -> np.ndarray:
    """bool [shapes, side, side]."""
    middle = (np.arange(side) * 2 + 1) * _UNITS // side
    drawn = [SceneObject(shape, 0, 0, 0, _UNITS, _UNITS, _UNITS, (1, 0, 1), 1, (0, 0)) for shape in range(len(SHAPES))]
    return np.stack([inside(item, middle, middle) for item in drawn])


def _exchanges(colours: np.ndarray, count: int, key: int) -> tuple[Exchange, ...]:
    """The whole grid, three cells, and how often a colour occurs."""
    names = _names(count)
    cells = int(len(colours) ** 0.5)
    asked = np.argsort(draw(key, np.arange(len(colours))), kind="stable")[:3]
    some = int(below(draw(key, 1 << 20), count)[0])
    number = int((colours == some).sum())
    return (
        Exchange("dense", "list all colours", (" ".join(names[colour] for colour in colours),)),
        *(Exchange("colour", f"what colour is {cell_name(c, cells)}", (names[colours[c]],)) for c in asked),
        Exchange("count", f"how many are {names[some]}", (NUMBERS[number] if number < 7 else str(number),)),
    )
