"""Procedural scenes with known content: textured shapes on textured ground, seeded, endless, at any resolution.

`scene(index, size)` gives image, label, masks, boxes, captions and questions that agree with each other; equal seed and
size give equal bytes on every machine. `scenes(size)` goes on for ever.
"""

from patchscale.data.scenes.language import Question
from patchscale.data.scenes.layout import SceneObject
from patchscale.data.scenes.scene import Scene, scene, scenes
from patchscale.data.scenes.vocabulary import CLASSES, COLOURS, SEMANTIC_CLASSES, SHAPES, SIZES, TEXTURES

__all__ = [
    "CLASSES",
    "COLOURS",
    "SEMANTIC_CLASSES",
    "SHAPES",
    "SIZES",
    "TEXTURES",
    "Question",
    "Scene",
    "SceneObject",
    "scene",
    "scenes",
]
