"""Answers to test questions, measured one by one at every n, and the scores they add up to.

Shape letters: B images, c evaluated numbers of vision tokens, m measured answers, T words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from patchscale.data import normalise
from patchscale.data.captions import CaptionSet
from patchscale.tasks.captioning.asking import FREE, Asking
from patchscale.tasks.captioning.copying import of_answers, of_random_texts
from patchscale.tasks.captioning.metrics import caption_scores
from patchscale.tasks.captioning.model import VisionLanguageModel
from patchscale.tasks.captioning.saying import say
from patchscale.tasks.captioning.text import Spelled, spell
from patchscale.tasks.task import Autocast

EVALUATION_BATCH = 64

Place = tuple[int, int, int]
"""Image, exchange and answer number."""


class Measured(NamedTuple):
    """Test answers, one by one, at every evaluated n."""

    items: Tensor
    """`Place` of each, int64 [m, 3]."""
    words: Tensor
    """Words of each answer, the end mark counted, int64 [m]."""
    losses: Tensor
    """Summed cross-entropy in nats, float64 [c, m]."""
    hits: Tensor
    """Words that are the most probable ones given those before, the end mark not counted, int64 [c, m]."""
    exact: Tensor
    """Whether the most probable words are the answer, its end included, bool [c, m]: greedy decoding says just it."""
    said: dict[tuple[int, int], list[str]]
    """Generated captions by image and exchange, one for every n."""
    copied: Tensor
    """Of the losses, what falls on the second and later sayings of an answer, float64 [c, m]."""
    matching: Tensor
    """Of each image its number, then `prefix_matching` of each head at the most n, of random texts and of its first
    answer, float64 [B, 1 + 2 H]; no rows where answers are said once."""


@dataclass(frozen=True)
class Examination:
    """The test questions of a set and how images are given to the model.

    Attributes:
        test_set: images and exchanges.
        asking: which of them are asked, and in which words.
        mean: of the training images, per channel.
        std: the same.
    """

    test_set: CaptionSet
    asking: Asking
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def counts(self) -> tuple[int, ...]:
        """Evaluated numbers of vision tokens, rising."""
        return self.asking.options.counts

    def inputs(self, images: Sequence[int], device: torch.device) -> Tensor:
        """Normalised test images float32 [B, 3, H, W]."""
        return normalise(self.test_set.read(images).to(device), self.mean, self.std)

    def places(self, images: Sequence[int]) -> list[Place]:
        """Every answer that is asked for about these images."""
        return [
            (image, number, answer)
            for image in images
            for number, exchange in enumerate(self.test_set.exchanges[image])
            if self.asking.options.weight(exchange.kind)
            for answer in range(len(exchange.answers))
        ]

    def measure(self, model: VisionLanguageModel, device: torch.device, autocast: Autocast, images: Tensor) -> Measured:
        """All answers about images int64 [B]."""
        parts = [self._some(model, device, autocast, some.tolist()) for some in images.split(EVALUATION_BATCH)]
        return joined(parts)

    def scores(self, parts: Sequence[Measured]) -> dict[int, dict[str, float]]:
        """The scores at every evaluated n; how the answers were divided into parts changes nothing."""
        items, words, losses, hits, exact, said, copied, matching = joined(parts)
        order = torch.tensor(np.lexsort(items.flip(1).T.numpy()))
        words, losses, hits, exact, copied = (part[..., order] for part in (words, losses, hits, exact, copied))
        exchanges = self.test_set.exchanges
        kinds = np.array([exchanges[image][number].kind for image, number, _ in items[order].tolist()])
        found = {}
        for row, count in enumerate(self.counts):
            sayings = self.asking.options.sayings
            scores = _scores("", words, losses[row], hits[row], exact[row], sayings)
            for kind in sorted(set(kinds.tolist())):
                own = torch.from_numpy(kinds == kind)
                scores |= _scores(f"{kind}_", words[own], losses[row][own], hits[row][own], exact[row][own], sayings)
            if said:
                captions = [(texts[row], exchanges[i][number].answers) for (i, number), texts in sorted(said.items())]
                scores |= caption_scores(captions)
            scores["test_loss"] = scores.pop("loss")
            if sayings > 1:
                scores |= _copying_scores(sayings, words, losses[row], copied[row])
                scores |= _matching_scores(matching)
            found[count] = scores
        return found

    def _some(
        self, model: VisionLanguageModel, device: torch.device, autocast: Autocast, images: list[int]
    ) -> Measured:
        """Of one batch; the fusion runs once, because fewer queries are the first of more."""
        places, counts = self.places(images), self.counts
        turns = [[self.asking.turn(self.test_set.exchanges[image][number], answer)] for image, number, answer in places]
        text = Spelled(*(part.to(device) for part in spell(turns)))
        row_of = {image: row for row, image in enumerate(images)}
        owner = torch.tensor([row_of[image] for image, _, _ in places], device=device)
        inputs = self.inputs(images, device)
        losses, hits, exact, copied = [], [], [], []
        later = later_sayings(text, self.asking.options.sayings)
        with autocast():
            if self.asking.options.question == "inside":
                vision = model.vision(inputs[owner], text.question, counts[-1])
            else:
                vision = model.vision(inputs, None, counts[-1])[owner]
            for count in counts:
                logits = model.language(vision[:, :count], text.words).float()
                losses.append(summed_losses(logits, text).double().cpu())
                copied.append(summed_losses(logits, text._replace(counted=later)).double().cpu())
                right = (logits.argmax(2) == text.following) & text.counted
                exact.append((right.sum(1) == text.counted.sum(1)).cpu())
                hits.append((right & (text.following != self.asking.spelling.end)).sum(1).cpu())
            said = self._captions(model, vision, places)
            matching = self._matching(model, vision, text, places)
        return Measured(
            torch.tensor(places), text.counted.sum(1).cpu(), torch.stack(losses), torch.stack(hits),
            torch.stack(exact), said, torch.stack(copied), matching,
        )  # fmt: skip

    def _matching(self, model: VisionLanguageModel, vision: Tensor, text: Spelled, places: list[Place]) -> Tensor:
        """See `Measured.matching`; of the vision tokens of each image's first answer, and that answer."""
        if self.asking.options.sayings == 1:
            return torch.empty(0, 1, dtype=torch.float64)
        first = {image: row for row, (image, _, _) in reversed(list(enumerate(places)))}
        images, rows = list(first), list(first.values())
        own = Spelled(*(part[rows] for part in text))
        found = [
            of_random_texts(model.language, vision[rows], images, len(self.asking.spelling.known)),
            of_answers(model.language, vision[rows], own, self.asking.options.sayings),
        ]
        return torch.cat([torch.tensor(images, dtype=torch.float64)[:, None], *(part.cpu() for part in found)], dim=1)

    def _captions(
        self, model: VisionLanguageModel, vision: Tensor, places: list[Place]
    ) -> dict[tuple[int, int], list[str]]:
        """Generated texts of every n for the exchanges of kind `FREE`; equal questions in one batch."""
        asked: dict[tuple[int, ...], list[int]] = {}
        for row, (image, number, answer) in enumerate(places):
            exchange = self.test_set.exchanges[image][number]
            if exchange.kind == FREE and answer == 0:
                asked.setdefault(tuple(self.asking.turn(exchange, 0).question), []).append(row)
        said = {}
        for question, rows in asked.items():
            texts = say(model, vision[rows], question, self.asking.spelling, self.counts)
            said |= {places[row][:2]: own for row, own in zip(rows, texts, strict=True)}
        return said


def joined(parts: Sequence[Measured]) -> Measured:
    """All answers in one record."""
    return Measured(
        torch.cat([part.items for part in parts]),
        torch.cat([part.words for part in parts]),
        torch.cat([part.losses for part in parts], dim=1),
        torch.cat([part.hits for part in parts], dim=1),
        torch.cat([part.exact for part in parts], dim=1),
        {place: texts for part in parts for place, texts in part.said.items()},
        torch.cat([part.copied for part in parts], dim=1),
        torch.cat([part.matching for part in parts]),
    )


def summed_losses(logits: Tensor, text: Spelled) -> Tensor:
    """Summed cross-entropy of each sample's answer words, float32 [B], for logits [B, T, K]."""
    each = F.cross_entropy(logits.float().flatten(0, 1), text.following.flatten(), reduction="none")
    return (each.view_as(text.following) * text.counted).sum(1)


def later_sayings(text: Spelled, sayings: int) -> Tensor:
    """Which words belong to the second and later sayings of an answer, bool [B, T]."""
    said = text.counted.cumsum(1)
    return text.counted & (said > said[:, -1:] // sayings)


def _copying_scores(sayings: int, words: Tensor, losses: Tensor, copied: Tensor) -> dict[str, float]:
    """Nats per word of the first saying, and of those that can be copied from it."""
    once = int(words.sum()) // sayings
    return {
        "first_saying_loss": (losses - copied).sum().item() / once,
        "copying_loss": copied.sum().item() / (once * (sayings - 1)),
    }


def _matching_scores(matching: Tensor) -> dict[str, float]:
    """Prefix matching, averaged over test images: of all heads, and of the best one."""
    found = {}
    by_head = matching[matching[:, 0].argsort(), 1:].mean(0)
    for name, heads in zip(("", "answer_"), by_head.chunk(2), strict=True):
        found |= {f"{name}prefix_matching": heads.mean().item(), f"best_{name}prefix_matching": heads.max().item()}
    return found


def _scores(name: str, words: Tensor, losses: Tensor, hits: Tensor, exact: Tensor, sayings: int) -> dict[str, float]:
    """Every saying ends in a mark, which counts in the loss only."""
    total = int(words.sum())
    return {
        f"{name}loss": losses.sum().item() / total,
        f"{name}token_accuracy": int(hits.sum()) / max(1, total - sayings * len(words)),
        f"{name}exact_match": int(exact.sum()) / len(words),
    }
