"""What is asked: the conversation drawn for a training image, and how a batch carries it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from torch import Tensor

from patchscale.data._random import below, draw, unit
from patchscale.data.captions import Exchange
from patchscale.errors import InputError
from patchscale.tasks.captioning.options import Options
from patchscale.tasks.captioning.text import Spelled, Spelling, Turn
from patchscale.tasks.task import Batch

FREE = "caption"
"""The kind of question whose answers are free text, scored by BLEU, ROUGE-L and CIDEr."""
ALONE = (FREE, "dense")
"""Kinds of question whose answers describe the whole image, after which no other can be asked."""


class Asked(NamedTuple):
    """What a batch is asked, and how much of the image the language model sees."""

    text: Spelled
    count: int
    noise: Tensor | None

    @classmethod
    def of(cls, batch: Batch) -> Asked:
        """What a batch of this task holds as targets, which travel between devices as plain tuples."""
        text, count, noise = batch.targets
        return cls(Spelled(*text), count, noise)


@dataclass(frozen=True)
class Asking:
    """Exchanges as turns of a vocabulary.

    Attributes:
        spelling: the vocabulary.
        options: which kinds of question are asked, how often, and how many of one image.
    """

    spelling: Spelling
    options: Options

    def turn(self, exchange: Exchange, answer: int) -> Turn:
        """A question and one of its answers, said as often as the options ask."""
        encode = self.spelling.encode
        said = [*encode(exchange.answers[answer]), self.spelling.end]
        return Turn(encode(exchange.question), said * self.options.sayings)

    def conversation(self, exchanges: Sequence[Exchange], seed: int, place: int) -> list[Turn]:
        """What one training image is asked at a place of a batch: a pure function of its arguments.

        Raises:
            InputError: none of the exchanges is of a kind that is asked.
        """
        kinds = [exchange.kind for exchange in exchanges]
        weights = np.array([self.options.weight(kind) / kinds.count(kind) for kind in kinds])
        if not weights.any():
            raise InputError(
                f"a training image has only questions of kinds {sorted(set(kinds))}; add one to task_options.kinds"
            )
        bits = draw(seed, place, np.arange(len(kinds)))
        with np.errstate(divide="ignore"):
            late = -np.log1p(-unit(bits)) / weights
        first, *others = (number for number in np.argsort(late, kind="stable") if weights[number])
        short = [number for number in others if kinds[number] not in ALONE]
        chosen = [first] if kinds[first] in ALONE else [first, *short[: self.options.turns - 1]]
        answers = below(draw(bits, 1), np.array([len(exchange.answers) for exchange in exchanges]))
        return [self.turn(exchanges[number], int(answers[number])) for number in chosen]
