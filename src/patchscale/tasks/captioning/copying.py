"""How a language model copies: attention heads that look where the present word stood before, at the word after it.

Shape letters: B sequences, n vision tokens, T words, H heads of all blocks together, K words in the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from patchscale.data.captions.exchange import SPECIAL
from patchscale.tasks.captioning.language import SmallLanguage
from patchscale.tasks.captioning.text import Spelled

RANDOM_WORDS = 16
"""Words of a random text, which is then said again."""


def random_texts(images: Sequence[int], words: int) -> Tensor:
    """A text of random words for each test image, int64 [B, RANDOM_WORDS]; a function of the image's number alone.

    Words do not repeat within a text as long as the vocabulary of `words` has enough of them, so that each has stood at
    one place before.
    """
    ordinary = words - len(SPECIAL)
    texts = []
    for image in images:
        generator = torch.Generator().manual_seed(image)
        order = [torch.randperm(ordinary, generator=generator) for _ in range(-(-RANDOM_WORDS // ordinary))]
        texts.append(len(SPECIAL) + torch.cat(order)[:RANDOM_WORDS])
    return torch.stack(texts)


def prefix_matching(language: SmallLanguage, vision: Tensor, words: Tensor, first: Tensor, period: Tensor) -> Tensor:
    """Attention to the word that followed the present one when it stood before, for every head: float64 [B, H].

    Averaged over the words of the second of two equal sayings, but the last. A head that copies by what came before
    ("induction head") has 1, one that looks everywhere alike has one over the number of rows so far (Olsson et al.
    2209.11895; Hernandez et al. 2205.10487).

    Args:
        language: the model, in evaluation mode.
        vision: vision tokens [B, n, D].
        words: int64 [B, T].
        first: where the second saying begins among the words, int64 [B].
        period: words of one saying, int64 [B].
    """
    count = vision.shape[1]
    place = torch.arange(words.shape[1], device=words.device)
    again = (place >= first[:, None]) & (place < (first + period)[:, None] - 1)
    matching = (place - period[:, None] + 1).clamp_min(0) + count
    found = []
    for weights in language.attention(vision, words):
        picks = matching[:, None, :, None].expand(-1, weights.shape[1], -1, 1)
        looked = weights[:, :, count:].gather(3, picks)[..., 0].double()
        found.append((looked * again[:, None]).sum(2) / again.sum(1)[:, None])
    return torch.cat(found, dim=1)


def of_random_texts(language: SmallLanguage, vision: Tensor, images: Sequence[int], words: int) -> Tensor:
    """`prefix_matching` of random texts said twice, as published."""
    texts = random_texts(images, words).to(vision.device)
    period = torch.full((len(texts),), texts.shape[1], device=vision.device)
    return prefix_matching(language, vision, texts.repeat(1, 2), period, period)


def of_answers(language: SmallLanguage, vision: Tensor, text: Spelled, sayings: int) -> Tensor:
    """`prefix_matching` of the second saying of answers, in the texts that they end."""
    period = text.counted.sum(1) // sayings
    question = text.counted.int().argmax(1) + 1
    return prefix_matching(language, vision, text.words, question + period, period)
