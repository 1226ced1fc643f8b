"""Captions and questions of a scene, from what is visible in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from patchscale.data.scenes.layout import Layout, SceneObject, Words
from patchscale.data.scenes.vocabulary import COLOUR_NAMES, SHAPES, TEXTURES

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")


@dataclass(frozen=True)
class Question:
    """A question about a scene with its one right answer.

    Attributes:
        kind: "count", "colour", "texture", "shape", "exists" or "side".
        text: the question.
        answer: one or two words.
    """

    kind: str
    text: str
    answer: str


def plural(shape: str) -> str:
    """ "crosses", "discs", ..."""
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def name_of(item: SceneObject) -> str:
    """ "red disc": unique within a scene."""
    _, colour, _, shape = item.words
    return f"{colour} {shape}"


def caption(objects: Sequence[SceneObject], layout: Layout) -> str:
    """One sentence: the large object, how many others, the ground."""
    main, others = objects[0], len(objects) - 1
    size, colour, texture, shape = main.words
    rest = f" and {NUMBERS[others]} smaller object{'s' if others > 1 else ''}" if others else ""
    return f"{_article(size)} {size} {colour} {texture} {shape}{rest} on {_ground(layout)}."


def dense_caption(objects: Sequence[SceneObject], boxes: np.ndarray, layout: Layout) -> str:
    """Every visible object with size, colour, texture and shape, left to right, and its place beside the first.

    Args:
        objects: visible objects, the large one first.
        boxes: int64 [n, 4], x0, y0, x1, y1 of the visible parts.
        layout: for the ground.
    """
    sentences = []
    for number in sorted(range(len(objects)), key=lambda position: _centre(boxes, position)):
        size, colour, texture, shape = objects[number].words
        sentence = f"{_article(size).capitalize()} {size} {colour} {texture} {shape}"
        if number:
            sentence += f" {relation(boxes[number], boxes[0])} the {name_of(objects[0])}"
        sentences.append(sentence + ".")
    return " ".join([*sentences, f"All on {_ground(layout)}."])


def relation(box: np.ndarray, other: np.ndarray) -> str:
    """Where one box's centre lies from another's: along the axis of the larger distance."""
    right, down = (int(box[k] + box[k + 2] - other[k] - other[k + 2]) for k in (0, 1))
    if right == 0 and down == 0:
        return "in the middle of"
    if abs(right) >= abs(down):
        return "left of" if right < 0 else "right of"
    return "above" if down < 0 else "below"


def questions(objects: Sequence[SceneObject], boxes: np.ndarray, width: int, words: Words) -> tuple[Question, ...]:
    """Pointed questions with exactly one right answer.

    Args:
        objects: visible objects, the large one first.
        boxes: int64 [n, 4] of the visible parts.
        width: of the image, pixels.
        words: random choices of what to ask.
    """
    chosen = objects[words.below(len(objects))]
    _, colour, texture, shape = chosen.words
    asked = [
        Question("count", "How many objects are there?", str(len(objects))),
        Question("shape", "What shape is the large object?", SHAPES[objects[0].shape]),
        Question("texture", f"What texture has the {name_of(chosen)}?", texture),
    ]
    some = SHAPES[words.below(len(SHAPES))]
    count = sum(SHAPES[item.shape] == some for item in objects)
    asked.append(Question("count", f"How many {plural(some)} are there?", str(count)))
    if sum(item.shape == chosen.shape for item in objects) == 1:
        asked.append(Question("colour", f"What colour is the {shape}?", colour))
    if words.below(2):
        asked.append(Question("exists", f"Is there a {texture} {colour} {shape}?", "yes"))
    else:
        colour, texture = COLOUR_NAMES[words.below(len(COLOUR_NAMES))], TEXTURES[words.below(len(TEXTURES))]
        there = any(item.words[1:] == (colour, texture, shape) for item in objects)
        asked.append(Question("exists", f"Is there a {texture} {colour} {shape}?", "yes" if there else "no"))
    if len(objects) > 1:
        first = words.below(len(objects))
        second = (first + 1 + words.below(len(objects) - 1)) % len(objects)
        gap = _centre(boxes, first) - _centre(boxes, second)
        if abs(gap) * 8 >= 2 * width:
            text = f"Is the {name_of(objects[first])} left or right of the {name_of(objects[second])}?"
            asked.append(Question("side", text, "left" if gap < 0 else "right"))
    return tuple(asked)


def _centre(boxes: np.ndarray, number: int) -> int:
    """Twice the horizontal centre, so that it is whole."""
    return int(boxes[number, 0] + boxes[number, 2])


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _ground(layout: Layout) -> str:
    return f"a {'light' if layout.ground_light else 'dark'} {TEXTURES[layout.ground_texture]} grey ground"
