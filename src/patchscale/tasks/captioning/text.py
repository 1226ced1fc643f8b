"""From exchanges to numbers: what the language model reads, and which of it counts as answer.

Shape letters: B batch, Q question words, T words.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from patchscale.tasks.captioning.language import transformers

PADDED = -1


class Spelling(Protocol):
    """Texts as numbers of a vocabulary."""

    known: tuple[str, ...]
    end: int
    """Number of the end mark."""

    def encode(self, text: str) -> list[int]:
        """Numbers of a text."""
        ...

    def decode(self, numbers: Iterable[int]) -> str:
        """The text up to the first end mark."""
        ...


class HubSpeller:
    """The tokenizer of a transformers model."""

    def __init__(self, name: str) -> None:
        self._tokenizer: Any = transformers().AutoTokenizer.from_pretrained(name)
        self.known = tuple(self._tokenizer.convert_ids_to_tokens(range(len(self._tokenizer))))
        self.end = int(self._tokenizer.eos_token_id)

    def encode(self, text: str) -> list[int]:
        """See `Spelling.encode`; without marks of begin and end."""
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def decode(self, numbers: Iterable[int]) -> str:
        """See `Spelling.decode`."""
        kept = []
        for number in numbers:
            if number == self.end:
                break
            kept.append(number)
        return self._tokenizer.decode(kept).strip()


class Turn(NamedTuple):
    """One question and one answer, the end mark included."""

    question: list[int]
    answer: list[int]


class Spelled(NamedTuple):
    """A batch of conversations."""

    words: Tensor
    """What the language model reads, int64 [B, T]; 0 behind the end."""
    following: Tensor
    """The word after each of them, int64 [B, T]."""
    counted: Tensor
    """Which of those are answers, bool [B, T]."""
    question: Tensor
    """The first question alone, int64 [B, Q]; `PADDED` behind its end."""


def spell(conversations: Sequence[Sequence[Turn]]) -> Spelled:
    """Turns one after the other, padded to the longest."""
    rows, marks = [], []
    for turns in conversations:
        rows.append([number for turn in turns for number in (*turn.question, *turn.answer)])
        marks.append([mark for turn in turns for mark in (*[0] * len(turn.question), *[1] * len(turn.answer))])
    longest = max(map(len, rows))
    numbers = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    counted = torch.tensor([mark + [0] * (longest - len(mark)) for mark in marks], dtype=torch.bool)
    asked = [turns[0].question for turns in conversations]
    width = max(map(len, asked))
    question = torch.tensor([row + [PADDED] * (width - len(row)) for row in asked], dtype=torch.int64)
    return Spelled(numbers[:, :-1], numbers[:, 1:], counted[:, 1:], question.view(len(asked), width))
