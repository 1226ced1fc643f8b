"""Answers about images through n vision tokens: cross-entropy of answer words; exact scores at every evaluated n.

Shape letters: B batch, T words, n vision tokens, c evaluated numbers of vision tokens, m measured answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchscale.data import Augment, DataSpec, Draws, normalise
from patchscale.data._random import below, draw, unit
from patchscale.data.captions import CaptionSet, Exchange, Speller, load_captions
from patchscale.data.spec import Split
from patchscale.errors import InputError
from patchscale.tasks.captioning.contrastive import Matched, contrastive_loss, matched, matching_scores
from patchscale.tasks.captioning.cost import head_cost
from patchscale.tasks.captioning.metrics import caption_scores
from patchscale.tasks.captioning.model import VisionLanguageModel
from patchscale.tasks.captioning.options import Options
from patchscale.tasks.captioning.text import HubSpeller, Spelled, Spelling, Turn, end_of, spell
from patchscale.tasks.task import Autocast, Batch, ModelSpec, Regularisation

EVALUATION_BATCH = 64
FREE = "caption"
"""The kind of question whose answers are free text, scored by BLEU, ROUGE-L and CIDEr."""
ALONE = (FREE, "dense")
"""Kinds of question whose answers describe the whole image, after which no other can be asked."""
LONGEST = 40
"""Words of a generated caption at most."""


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


class Measured(NamedTuple):
    """Test answers, one by one, at every evaluated n."""

    items: Tensor
    """Image, exchange and answer number, int64 [m, 3]."""
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


class Captioning:
    """A small vision-language model on images with questions and answers."""

    Options = Options

    def __init__(self, model: ModelSpec, data: DataSpec, options: Options, regularisation: Regularisation) -> None:
        self.spec, self.options, self.regularisation, self.data = model, options, regularisation, data
        _refuse_unfit(regularisation)
        self.test_set = self._load("test")
        self.test_size = len(self.test_set)
        there = {exchange.kind for image in self.test_set.exchanges for exchange in image}
        if not any(map(self._is_asked, there)):
            raise InputError(f"task_options.kinds {options.kinds} names none of {', '.join(sorted(there))}; name some")
        self.mean, self.std = self.test_set.mean, self.test_set.std

    @cached_property
    def train_set(self) -> CaptionSet:
        """Loaded when it is first asked for."""
        return self._load("train")

    @property
    def train_size(self) -> int:
        return len(self.train_set)

    @property
    def decodes(self) -> bool:
        return not self.train_set.in_memory

    @cached_property
    def spelling(self) -> Spelling:
        """The words of the training set, or the language model's own."""
        if self.options.backbone is not None:
            return HubSpeller(self.options.backbone)
        return Speller(self.train_set.vocabulary)

    @property
    def classes(self) -> tuple[str, ...]:
        """The vocabulary: what the language model says next is one of so many words."""
        return self.spelling.known

    @cached_property
    def end(self) -> int:
        """Number of the end mark."""
        return end_of(self.spelling)

    @staticmethod
    def network(spec: ModelSpec, classes: int, options: Options) -> VisionLanguageModel:
        """The whole model for a vocabulary of `classes` words."""
        return VisionLanguageModel(spec, classes, options)

    def build_model(self) -> VisionLanguageModel:
        """See `Task.build_model`."""
        return self.network(self.spec, len(self.classes), self.options)

    def encoder(self, model: nn.Module) -> nn.Module:
        """See `Task.encoder`."""
        return model.encoder  # pyright: ignore[reportReturnType]

    head_cost = staticmethod(head_cost)

    def batch(self, indices: Tensor, seed: int, rows: slice) -> Batch:
        """Inputs float32 [B, 3, H, W] and what is asked of each image (`Asked`)."""
        generator = torch.Generator().manual_seed(seed)
        counts, channels = self.options.counts, self.options.bottleneck
        count = counts[int(torch.randint(len(counts), (), generator=generator))]
        noise = None
        if channels is not None and self.options.noise:
            noise = torch.randn(len(indices), counts[-1], channels, generator=generator)
            noise = self.options.noise * noise[rows, :count]
        images = self.regularisation.augment(self.train_set.read(indices[rows]), Draws(generator, len(indices), rows))
        places = range(len(indices))[rows]
        asked = [self._ask(int(indices[place]), seed, place) for place in places]
        return Batch(normalise(images, self.mean, self.std), (tuple(spell(asked)), count, noise))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean over samples of the mean cross-entropy of their answers' words, end marks counted; nats.

        In the contrastive stage see `contrastive_loss`, which compares the samples of the part with each other.
        """
        text, count, noise = Asked.of(batch)
        question = text.question
        if self.options.objective == "contrastive":
            return contrastive_loss(model, batch.inputs, text, count, self.options.orthogonal)
        logits = model(batch.inputs, question, text.words, count, noise)
        return (_losses(logits, text) / text.counted.sum(1)).mean().float()

    @torch.no_grad()
    def measure(self, model: nn.Module, device: torch.device, autocast: Autocast, indices: Tensor) -> Any:
        """See `Task.measure`: `Measured`, or in the contrastive stage `Matched` of the first exchange of each image."""
        if self.options.objective == "contrastive":
            return self._match(model, device, autocast, indices)
        parts = [
            self._measure_some(model, device, autocast, chosen.tolist()) for chosen in indices.split(EVALUATION_BATCH)
        ]
        return _joined(parts)

    def scores(self, parts: Sequence[Any]) -> dict[str, float]:
        """`test_loss` (nats per answer word), `token_accuracy` and `exact_match`, each also by kind of question.

        Free captions have text scores too. All are of the most vision tokens, and under protocol `nested` also of every
        n, with `_n<n>` behind the name. The contrastive stage has those of `matching_scores`.
        """
        if self.options.objective == "contrastive":
            return matching_scores(parts, self.options.orthogonal)
        found = self.scores_by_count(parts)
        each = {f"{name}_n{count}": value for count, scores in found.items() for name, value in scores.items()}
        return found[self.options.counts[-1]] | (each if self.options.protocol == "nested" else {})

    def scores_by_count(self, parts: Sequence[Measured]) -> dict[int, dict[str, float]]:
        """The scores at every evaluated n."""
        items, words, losses, hits, exact, said = _joined(parts)
        order = torch.tensor(np.lexsort(items.flip(1).T.numpy()))
        words, losses, hits, exact = (part[..., order] for part in (words, losses, hits, exact))
        kinds = [self.test_set.exchanges[image][number].kind for image, number, _ in items[order].tolist()]
        found = {}
        for row, count in enumerate(self.options.counts):
            scores = _scores("", words, losses[row], hits[row], exact[row])
            for kind in dict.fromkeys(sorted(kinds)):
                own = torch.tensor([name == kind for name in kinds])
                scores |= _scores(f"{kind}_", words[own], losses[row][own], hits[row][own], exact[row][own])
            if said:
                pairs = [
                    (texts[row], self.test_set.exchanges[image][number].answers)
                    for (image, number), texts in sorted(said.items())
                ]
                scores |= caption_scores(pairs)
            scores["test_loss"] = scores.pop("loss")
            found[count] = scores
        return found

    def _match(self, model: nn.Module, device: torch.device, autocast: Autocast, indices: Tensor) -> Matched:
        parts = []
        for chosen in indices.split(EVALUATION_BATCH):
            text = spell([[self._turn(self.test_set.exchanges[image][0], 0)] for image in chosen.tolist()])
            inputs = normalise(self.test_set.read(chosen).to(device), self.mean, self.std)
            moved = Spelled(*(part.to(device) for part in text))
            with autocast():
                parts.append(matched(model, inputs, moved, self.options.counts[-1], chosen))
        return Matched(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def _measure_some(self, model: nn.Module, device: torch.device, autocast: Autocast, images: list[int]) -> Measured:
        """Images [B] and all their exchanges; the fusion runs once, because fewer queries are the first of more."""
        places = [
            (image, number, answer)
            for image in images
            for number, exchange in enumerate(self.test_set.exchanges[image])
            if self._is_asked(exchange.kind)
            for answer in range(len(exchange.answers))
        ]
        turns = [[self._turn(self.test_set.exchanges[i][number], answer)] for i, number, answer in places]
        text = Spelled(*(part.to(device) for part in spell(turns)))
        row_of = {image: row for row, image in enumerate(images)}
        owner = torch.tensor([row_of[image] for image, _, _ in places], device=device)
        inputs = normalise(self.test_set.read(images).to(device), self.mean, self.std)
        counts = self.options.counts
        assert isinstance(model, VisionLanguageModel)
        losses, hits, exact = [], [], []
        with autocast():
            if self.options.question == "inside":
                vision = model.vision(inputs[owner], text.question, counts[-1])
            else:
                vision = model.vision(inputs, None, counts[-1])[owner]
            for count in counts:
                logits = model.language(vision[:, :count], text.words).float()
                losses.append(_losses(logits, text).double().cpu())
                right = (logits.argmax(2) == text.following) & text.counted
                exact.append((right.sum(1) == text.counted.sum(1)).cpu())
                hits.append((right & (text.following != self.end)).sum(1).cpu())
            said = self._say(model, vision, places, counts)
        return Measured(
            torch.tensor(places), text.counted.sum(1).cpu(), torch.stack(losses), torch.stack(hits),
            torch.stack(exact), said,
        )  # fmt: skip

    def _say(
        self, model: VisionLanguageModel, vision: Tensor, places: list[tuple[int, int, int]], counts: tuple[int, ...]
    ) -> dict[tuple[int, int], list[str]]:
        """Captions of every n for the exchanges of kind `FREE`."""
        said: dict[tuple[int, int], list[str]] = {}
        asked: dict[tuple[int, ...], list[int]] = {}
        for row, (image, number, answer) in enumerate(places):
            exchange = self.test_set.exchanges[image][number]
            if exchange.kind == FREE and answer == 0:
                asked.setdefault(tuple(self._turn(exchange, 0).question), []).append(row)
        for question, rows in asked.items():
            words = torch.tensor(question, device=vision.device).expand(len(rows), -1)
            for count in counts:
                found = model.generate(vision[rows, :count], words, self.end, LONGEST)
                for row, numbers in zip(rows, found.tolist(), strict=True):
                    said.setdefault(places[row][:2], []).append(self.spelling.decode(numbers))
        return said

    def _ask(self, image: int, seed: int, place: int) -> list[Turn]:
        """The conversation about one training image: a pure function of its arguments."""
        exchanges = self.train_set.exchanges[image]
        kinds = [exchange.kind for exchange in exchanges]
        weights = np.array([self.options.kinds.get(kind, 0.0) if self.options.kinds else 1.0 for kind in kinds])
        weights = weights / [kinds.count(kind) for kind in kinds]
        if not weights.any():
            raise InputError(
                f"training image {image} has only questions of kinds {sorted(set(kinds))}; add one to kinds"
            )
        bits = draw(seed, place, np.arange(len(kinds)))
        with np.errstate(divide="ignore"):
            late = -np.log1p(-unit(bits)) / weights
        first, *others = (number for number in np.argsort(late, kind="stable") if weights[number])
        short = [number for number in others if kinds[number] not in ALONE]
        chosen = [first] if kinds[first] in ALONE else [first, *short[: self.options.turns - 1]]
        answers = below(draw(bits, 1), np.array([len(exchange.answers) for exchange in exchanges]))
        return [self._turn(exchanges[number], int(answers[number])) for number in chosen]

    def _is_asked(self, kind: str) -> bool:
        """Whether a kind of question is trained, and so tested."""
        return not self.options.kinds or self.options.kinds.get(kind, 0.0) > 0

    def _turn(self, exchange: Exchange, answer: int) -> Turn:
        spelling = self.spelling
        return Turn(spelling.encode(exchange.question), [*spelling.encode(exchange.answers[answer]), self.end])

    def _load(self, split: Split) -> CaptionSet:
        height, width = self.spec.input_size
        rows, columns = self.options.views or (1, 1)
        return load_captions(self.data, split, (rows * height, columns * width))


def _joined(parts: Sequence[Measured]) -> Measured:
    """All answers in one record."""
    return Measured(
        torch.cat([part.items for part in parts]),
        torch.cat([part.words for part in parts]),
        torch.cat([part.losses for part in parts], dim=1),
        torch.cat([part.hits for part in parts], dim=1),
        torch.cat([part.exact for part in parts], dim=1),
        {place: texts for part in parts for place, texts in part.said.items()},
    )


def _losses(logits: Tensor, text: Spelled) -> Tensor:
    """Summed cross-entropy of each sample's answer words, float32 [B]."""
    each = F.cross_entropy(logits.float().flatten(0, 1), text.following.flatten(), reduction="none")
    return (each.view_as(text.following) * text.counted).sum(1)


def _scores(name: str, words: Tensor, losses: Tensor, hits: Tensor, exact: Tensor) -> dict[str, float]:
    total = int(words.sum())
    return {
        f"{name}loss": losses.sum().item() / total,
        f"{name}token_accuracy": int(hits.sum()) / max(1, total - len(words)),
        f"{name}exact_match": int(exact.sum()) / len(words),
    }


def _refuse_unfit(regularisation: Regularisation) -> None:
    """Raises InputError for what would make an answer wrong."""
    augment, mixing, smoothing = regularisation
    known = {"crop_padding", "color_jitter"}
    changed = {name for name in type(augment).model_fields if getattr(augment, name) != getattr(Augment(), name)}
    if unfit := sorted(changed - known):
        raise InputError(
            f"recipe.augment.{unfit[0]} may make answers wrong; captioning takes {', '.join(sorted(known))}"
        )
    if mixing.active or smoothing:
        raise InputError("recipe.mixing and recipe.label_smoothing are not for captioning; leave them out")
