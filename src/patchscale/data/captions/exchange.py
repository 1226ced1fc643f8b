"""What is said about an image: questions with their right answers, and the words they are made of."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

_WORD = re.compile(r"\w+|[^\w\s]")
PAD, END, UNKNOWN = "<pad>", "<end>", "<unknown>"
SPECIAL = (PAD, END, UNKNOWN)


class Exchange(NamedTuple):
    """A question and all its right answers; several only for free captions."""

    kind: str
    """What is asked for, such as "dense", "colour" or "count"; scores are given by kind."""
    question: str
    answers: tuple[str, ...]


def words(text: str) -> list[str]:
    """Words and punctuation marks of a text, in small letters."""
    return _WORD.findall(text.lower())


def vocabulary(exchanges: Iterable[Exchange], least: int = 1) -> tuple[str, ...]:
    """Special words, then all words that occur at least `least` times, in alphabetical order."""
    counts = Counter(word for one in exchanges for text in (one.question, *one.answers) for word in words(text))
    return (*SPECIAL, *sorted(word for word, count in counts.items() if count >= least))


class Speller:
    """Texts as numbers of words.

    Args:
        known: the vocabulary; its first three words are `SPECIAL`.
    """

    def __init__(self, known: tuple[str, ...]) -> None:
        assert known[: len(SPECIAL)] == SPECIAL
        self.known, self.end = known, known.index(END)
        self._number = {word: number for number, word in enumerate(known)}

    def encode(self, text: str) -> list[int]:
        """Numbers of the words; `UNKNOWN` for words outside the vocabulary."""
        return [self._number.get(word, self._number[UNKNOWN]) for word in words(text)]

    def decode(self, numbers: Iterable[int]) -> str:
        """Words with blanks between, up to the first `END`."""
        found = []
        for number in numbers:
            if self.known[number] == END:
                break
            found.append(self.known[number])
        return " ".join(found)
