"""Scenes: equal bytes, and pixels, masks, boxes, captions and answers that agree.

What a scene says is derived again here from the rendered pixels alone: colour by hue, texture by the pattern of light
and dark, shape by area and outline.
"""

from __future__ import annotations

import colorsys
import hashlib
import re

import numpy as np
import pytest

from patchscale.data import DataSpec, load
from patchscale.data.scenes import CLASSES, COLOURS, SHAPES, SIZES, TEXTURES, Scene, scene, scenes
from patchscale.data.scenes.scene import labelled_image
from patchscale.errors import InputError

SIDE = 256
SCENES = [scene(index, (SIDE, SIDE), seed=3) for index in range(24)]
HUES = {name: colorsys.rgb_to_hsv(*(value / 255 for value in rgb))[0] for name, rgb in COLOURS.items()}
OBJECT = re.compile(rf"({'|'.join(SIZES)}) ({'|'.join(COLOURS)}) ({'|'.join(TEXTURES)}) ({'|'.join(SHAPES)})")


def digest(drawn: Scene) -> str:
    content = [drawn.image.tobytes(), drawn.instances.tobytes(), drawn.boxes.tobytes(), drawn.dense_caption.encode()]
    return hashlib.sha256(b"|".join([*content, repr(drawn.questions).encode()])).hexdigest()[:16]


def colour_of_pixels(image: np.ndarray) -> np.ndarray:
    """Nearest named hue of every pixel, as positions in COLOURS; -1 where there is no colour."""
    values = image.astype(float) / 255
    high, low = values.max(axis=2), values.min(axis=2)
    spread = np.where(high > low, high - low, 1)
    red, green, blue = np.moveaxis(values, 2, 0)
    hue = np.select(
        [high == red, high == green],
        [(green - blue) / spread % 6, (blue - red) / spread + 2],
        (red - green) / spread + 4,
    )
    distance = np.abs(hue[..., None] / 6 - np.array(list(HUES.values())))
    nearest = np.minimum(distance, 1 - distance).argmin(axis=2)
    return np.where(high - low > 0.2 * high, nearest, -1)


def interior(mask: np.ndarray) -> np.ndarray:
    """The pixels of a mask whose eight neighbours belong to it too: their colours are not mixed with others."""
    padded = np.pad(mask, 1)
    shifted = [padded[row : row + SIDE, column : column + SIDE] for row in range(3) for column in range(3)]
    return np.logical_and.reduce(shifted)


def light_in(drawn: Scene, mask: np.ndarray) -> np.ndarray:
    """Brightness of the strongest channel relative to the light tone, NaN outside the mask."""
    values = drawn.image.max(axis=2).astype(float)
    return np.where(mask, values / values[mask].max(), np.nan)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((32, 32), "5b4a69cb773b9b2b"), ((64, 96), "dbb4d65d25fef5de"), ((224, 160), "fdc7eff1a53acc0a")],
)
def test_equal_seed_and_size_give_equal_bytes_on_every_machine(size, expected):
    assert digest(scene(5, size, seed=1)) == digest(scene(5, size, seed=1)) == expected


def test_seed_split_and_index_all_matter_and_the_stream_is_the_sequence():
    first = digest(scene(0, (32, 32)))
    others = [scene(1, (32, 32)), scene(0, (32, 32), seed=1), scene(0, (32, 32), split="test")]
    assert len({first, *map(digest, others)}) == 4
    stream = scenes((32, 32), start=7)
    assert [digest(next(stream)) for _ in range(3)] == [digest(scene(index, (32, 32))) for index in (7, 8, 9)]


def test_resolution_changes_pixels_not_content():
    for index in range(8):
        small, large = scene(index, (64, 64)), scene(index, (192, 192))
        assert small.objects == large.objects
        assert small.caption == large.caption
        assert small.label == large.label
        shrunk = large.instances[1::3, 1::3]
        assert (shrunk == small.instances).mean() > 0.97


@pytest.mark.parametrize("drawn", SCENES[:12])
def test_masks_agree_with_the_colours_of_the_pixels(drawn):
    seen = colour_of_pixels(drawn.image)
    for mask, item in zip(drawn.masks, drawn.objects, strict=True):
        inner = interior(mask)
        assert (seen[inner] == item.colour).mean() > 0.97, item.words
    ground = seen[interior(drawn.instances == 0)]
    assert (ground != -1).mean() < 0.001, "only tips thinner than half a pixel may colour the ground"


@pytest.mark.parametrize("drawn", SCENES)
def test_boxes_semantic_and_instance_masks_agree(drawn):
    assert drawn.boxes.shape == (len(drawn.objects), 4)
    assert set(np.unique(drawn.instances)) - {0} == set(range(1, len(drawn.objects) + 1))
    for (x0, y0, x1, y1), mask, item in zip(drawn.boxes, drawn.masks, drawn.objects, strict=True):
        rows, columns = np.nonzero(mask)
        assert (x0, y0, x1, y1) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert (drawn.semantic[mask] == item.shape + 1).all()
    assert ((drawn.semantic == 0) == (drawn.instances == 0)).all()


@pytest.mark.parametrize("drawn", SCENES)
def test_textures_agree_with_the_pattern_of_light_and_dark(drawn):
    for mask, item in zip(drawn.masks, drawn.objects, strict=True):
        inner = interior(mask)
        light = light_in(drawn, inner)
        along_rows = np.nanmax([np.nanstd(row) for row in light if np.isfinite(row).sum() > 1])
        along_columns = np.nanmax([np.nanstd(column) for column in light.T if np.isfinite(column).sum() > 1])
        constant = {"rows": along_rows < 0.02, "columns": along_columns < 0.02}
        name = TEXTURES[item.texture]
        assert constant["rows"] == (name in ("plain", "horizontally striped")), item.words
        assert constant["columns"] == (name in ("plain", "vertically striped")), item.words


@pytest.mark.parametrize("drawn", SCENES)
def test_shapes_agree_with_the_outline_of_unhidden_objects(drawn):
    """Area over box area of each shape, turned by at most 17 degrees; a ring has a hole."""
    expected = {"disc": (0.75, 0.82), "square": (0.62, 1.0), "triangle": (0.38, 0.56), "cross": (0.41, 0.58),
                "ring": (0.55, 0.62), "star": (0.29, 0.41)}  # fmt: skip
    last = len(drawn.objects)
    touching = {int(value) for value in np.unique(drawn.instances[np.pad(drawn.instances, 2)[4:, 2:-2] == last])}
    if touching - {0, last}:
        return
    mask, (x0, y0, x1, y1), item = drawn.masks[-1], drawn.boxes[-1], drawn.objects[-1]
    fill = mask.sum() / ((x1 - x0) * (y1 - y0))
    low, high = expected[SHAPES[item.shape]]
    assert low <= fill <= high, (item.words, fill)
    assert mask[(y0 + y1) // 2, (x0 + x1) // 2] == (SHAPES[item.shape] != "ring")


@pytest.mark.parametrize("drawn", SCENES)
def test_captions_name_exactly_the_visible_objects(drawn):
    assert sorted(OBJECT.findall(drawn.dense_caption.lower())) == sorted(item.words for item in drawn.objects)
    assert OBJECT.findall(drawn.caption) == [drawn.objects[0].words]
    assert f"{TEXTURES[drawn.objects[0].texture]} {SHAPES[drawn.objects[0].shape]}" == CLASSES[drawn.label]
    assert drawn.objects[0].words[0] == "large"
    assert all(item.words[0] != "large" for item in drawn.objects[1:])
    centre = {f"{item.words[1]} {item.words[3]}": box for item, box in zip(drawn.objects, drawn.boxes, strict=True)}
    relations = re.findall(
        OBJECT.pattern + r" (left of|right of|above|below) the (\w+ \w+)\.", drawn.dense_caption.lower()
    )
    assert len(relations) == len(drawn.objects) - 1
    for _, colour, _, shape, relation, other in relations:
        box, reference = centre[f"{colour} {shape}"], centre[other]
        axis = 0 if relation in ("left of", "right of") else 1
        smaller = box[axis] + box[axis + 2] < reference[axis] + reference[axis + 2]
        assert smaller == (relation in ("left of", "above"))


@pytest.mark.parametrize("drawn", SCENES)
def test_answers_agree_with_masks_and_pixels(drawn):
    seen = colour_of_pixels(drawn.image)
    shapes = [SHAPES[int(np.bincount(drawn.semantic[mask]).argmax()) - 1] for mask in drawn.masks]
    colours = [list(COLOURS)[int(np.bincount(seen[interior(mask)] + 1).argmax()) - 1] for mask in drawn.masks]
    names = [f"{colour} {shape}" for colour, shape in zip(colours, shapes, strict=True)]
    middles = [float(np.nonzero(mask)[1].min() + np.nonzero(mask)[1].max()) for mask in drawn.masks]
    kinds = set()
    for question in drawn.questions:
        kinds.add(question.kind)
        if question.text == "How many objects are there?":
            answer = str(drawn.instances.max())
        elif counted := re.match(r"How many (\w+) are there", question.text):
            answer = str(sum(counted[1] in (f"{shape}s", f"{shape}es") for shape in shapes))
        elif question.kind == "shape":
            answer = shapes[int(np.argmax([box[2] - box[0] + box[3] - box[1] for box in drawn.boxes]))]
        elif asked := re.match(r"What colour is the (\w+)", question.text):
            assert shapes.count(asked[1]) == 1
            answer = colours[shapes.index(asked[1])]
        elif asked := re.match(r"What texture has the (\w+ \w+)\?", question.text):
            answer = TEXTURES[drawn.objects[names.index(asked[1])].texture]
        elif asked := re.match(r"Is there a (.+) (\w+ \w+)\?", question.text):
            there = [(TEXTURES[item.texture], name) for item, name in zip(drawn.objects, names, strict=True)]
            answer = "yes" if (asked[1], asked[2]) in there else "no"
        else:
            asked = re.match(r"Is the (\w+ \w+) left or right of the (\w+ \w+)\?", question.text)
            assert asked, question
            first, second = (middles[names.index(asked[k])] for k in (1, 2))
            answer = "left" if first < second else "right"
        assert question.answer == answer, question
    assert {"count", "shape", "texture", "exists"} <= kinds


def test_hidden_objects_keep_only_their_visible_part():
    hidden = 0
    for drawn in SCENES:
        assert drawn.masks.sum(axis=0).max() <= 1
        for back, mask in zip(drawn.objects, drawn.masks, strict=True):
            from patchscale.data.scenes.layout import UNITS, inside

            centres = (2 * np.arange(SIDE) + 1) * UNITS // (2 * SIDE)
            whole = inside(back, centres, centres)
            assert (mask & ~whole).mean() < 0.005
            hidden += mask.sum() < 0.9 * whole.sum()
            assert mask.sum() > 0.45 * whole.sum()
    assert hidden > 3


def test_every_class_and_every_question_kind_occurs():
    drawn = [scene(index, (16, 16)) for index in range(400)]
    assert {one.label for one in drawn} == set(range(len(CLASSES)))
    answers = [question.answer for one in drawn for question in one.questions if question.kind == "exists"]
    assert 0.3 < answers.count("yes") / len(answers) < 0.7
    sides = [question.answer for one in drawn for question in one.questions if question.kind == "side"]
    assert 0.3 < sides.count("left") / len(sides) < 0.7


def test_scenes_as_a_classification_set():
    spec = DataSpec(name="scenes", train_size=40, test_size=20)
    images = load(spec, "train", (32, 48))
    assert images.classes == CLASSES
    assert len(images) == 40
    pixels = images.read([0, 39]).permute(0, 2, 3, 1).numpy()
    for row, index in enumerate((0, 39)):
        drawn = scene(index, (32, 48))
        assert (pixels[row] == drawn.image).all()
        assert int(images.labels[index]) == drawn.label
    assert len(load(spec, "test", (32, 48))) == 20


def test_too_small_a_canvas_is_refused():
    with pytest.raises(InputError, match="7x32"):
        scene(0, (7, 32))


@pytest.mark.parametrize("size", [(24, 24), (17, 40), (100, 100)])
def test_the_labelled_image_alone_is_that_of_the_scene(size):
    for index in range(6):
        whole = scene(index, size, seed=3, split="test")
        image, label = labelled_image(index, size, seed=3, split="test")
        assert np.array_equal(image, whole.image)
        assert label == whole.label
    with pytest.raises(InputError, match="scene 0 at 4x4"):
        labelled_image(0, (4, 4))
