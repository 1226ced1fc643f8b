"""What the small model says: greedy answers at every n, in tests, in examples and about a user's own images.

Shape letters: B questions, n vision tokens, Q question words, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from patchscale.tasks.captioning.model import VisionLanguageModel
from patchscale.tasks.captioning.text import Spelling

LONGEST = 40
"""Words of an answer at most."""


def say(
    model: VisionLanguageModel, vision: Tensor, question: Sequence[int], spelling: Spelling, counts: Sequence[int]
) -> list[list[str]]:
    """Answers to one question about B images: of each image a text for every n.

    Args:
        model: in evaluation mode.
        vision: vision tokens [B, n, D] of the most in `counts`; fewer are the first of them.
        question: numbers of its words.
        spelling: the vocabulary.
        counts: numbers of vision tokens.
    """
    asked = torch.tensor(question, dtype=torch.int64, device=vision.device).expand(len(vision), -1)
    found = []
    for count in counts:
        words = model.generate(vision[:, :count], asked, spelling.end, LONGEST)
        found.append([spelling.decode(numbers) for numbers in words.tolist()])
    return [list(texts) for texts in zip(*found, strict=True)]


def say_of_one(
    model: VisionLanguageModel, image: Tensor, question: Sequence[int], spelling: Spelling, counts: Sequence[int]
) -> list[str]:
    """The same of one normalised image float32 [1, 3, H, W], from the image on."""
    asked = torch.tensor([question], dtype=torch.int64, device=image.device)
    return say(model, model.vision(image, asked, counts[-1]), question, spelling, counts)[0]
