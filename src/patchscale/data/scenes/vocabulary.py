"""The words of the scenes: what an object can be, and what it is called."""

from __future__ import annotations

SHAPES = ("disc", "square", "triangle", "cross", "ring", "star")
TEXTURES = ("plain", "horizontally striped", "vertically striped", "checked", "dotted")
SIZES = ("small", "medium", "large")

# Light tones; the dark tone of a texture is 9/16 of them, which keeps the hue.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (224, 48, 48),
    "orange": (240, 144, 16),
    "yellow": (232, 224, 48),
    "green": (48, 176, 64),
    "cyan": (48, 208, 224),
    "blue": (56, 88, 240),
    "purple": (144, 48, 224),
    "pink": (240, 96, 192),
}
COLOUR_NAMES = tuple(COLOURS)

# The label: shape and texture of the one large object; it is never plain.
CLASSES = tuple(f"{texture} {shape}" for shape in SHAPES for texture in TEXTURES[1:])
SEMANTIC_CLASSES = ("ground", *SHAPES)


def label_of(shape: int, texture: int) -> int:
    """The class of a large object with these positions in `SHAPES` and `TEXTURES`."""
    return shape * (len(TEXTURES) - 1) + texture - 1
