"""Answers about images through n vision tokens: cross-entropy of answer words; exact scores at every evaluated n.

Shape letters: B batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from patchscale.data import DataSpec, Draws, normalise
from patchscale.data.captions import CaptionSet, Speller, load_captions
from patchscale.data.spec import Split
from patchscale.errors import InputError
from patchscale.tasks.captioning.asking import Asked, Asking
from patchscale.tasks.captioning.contrastive import Matched, contrastive_loss, matched, matching_scores
from patchscale.tasks.captioning.cost import head_cost
from patchscale.tasks.captioning.examples import write_examples
from patchscale.tasks.captioning.measuring import EVALUATION_BATCH, Examination, Measured, summed_losses
from patchscale.tasks.captioning.model import VisionLanguageModel
from patchscale.tasks.captioning.options import Options
from patchscale.tasks.captioning.predict import predict
from patchscale.tasks.captioning.text import HubSpeller, Spelled, Spelling, spell
from patchscale.tasks.refuse import refuse_unfit
from patchscale.tasks.task import Autocast, Batch, ModelSpec, Regularisation


class Captioning:
    """A small vision-language model on images with questions and answers."""

    Options = Options

    def __init__(self, model: ModelSpec, data: DataSpec, options: Options, regularisation: Regularisation) -> None:
        self.spec, self.options, self.regularisation, self.data = model, options, regularisation, data
        refuse_unfit(regularisation, "captioning", augment=("crop_padding", "color_jitter"))
        self.test_set = self._load("test")
        self.test_size = len(self.test_set)
        there = {exchange.kind for image in self.test_set.exchanges for exchange in image}
        if not any(map(options.weight, there)):
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
    def asking(self) -> Asking:
        """Exchanges as numbers of words."""
        return Asking(self.spelling, self.options)

    @property
    def examination(self) -> Examination:
        """The test questions, with the mean and standard deviation that hold at the moment."""
        return Examination(self.test_set, self.asking, self.mean, self.std)

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
    predict = staticmethod(predict)

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
        exchanges = self.train_set.exchanges
        places = range(len(indices))[rows]
        asked = [self.asking.conversation(exchanges[int(indices[place])], seed, place) for place in places]
        return Batch(normalise(images, self.mean, self.std), (tuple(spell(asked)), count, noise))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean over samples of the mean cross-entropy of their answers' words, end marks counted; nats.

        In the contrastive stage see `contrastive_loss`, which compares the samples of the part with each other.
        """
        text, count, noise = Asked.of(batch)
        if self.options.objective == "contrastive":
            return contrastive_loss(model, batch.inputs, text, count, self.options.orthogonal)
        logits = model(batch.inputs, text.question, text.words, count, noise)
        return (summed_losses(logits, text) / text.counted.sum(1)).mean().float()

    @torch.no_grad()
    def measure(self, model: nn.Module, device: torch.device, autocast: Autocast, indices: Tensor) -> Any:
        """See `Task.measure`: `Measured`, or in the contrastive stage `Matched` of the first exchange of each image."""
        if self.options.objective == "contrastive":
            return self._match(model, device, autocast, indices)
        assert isinstance(model, VisionLanguageModel)
        return self.examination.measure(model, device, autocast, indices)

    def scores(self, parts: Sequence[Any]) -> dict[str, float]:
        """`test_loss` (nats per answer word), `token_accuracy` and `exact_match`, each also by kind of question.

        Free captions have text scores too. Where answers are said more than once, `first_saying_loss` and
        `copying_loss` are nats per word of the first saying and of the others, `prefix_matching` the mean over heads.
        All are of the most vision tokens, and under protocol `nested` also of every n, with `_n<n>` behind the name.
        The contrastive stage has those of `matching_scores`.
        """
        if self.options.objective == "contrastive":
            return matching_scores(parts, self.options.orthogonal)
        found = self.scores_by_count(parts)
        each = {f"{name}_n{count}": value for count, scores in found.items() for name, value in scores.items()}
        return found[self.options.counts[-1]] | (each if self.options.protocol == "nested" else {})

    def scores_by_count(self, parts: Sequence[Measured]) -> dict[int, dict[str, float]]:
        """The scores at every evaluated n."""
        return self.examination.scores(parts)

    def illustrate(self, model: nn.Module, device: torch.device, autocast: Autocast, folder: Path) -> None:
        """See `Task`: questions about some test images and what the model says at every n."""
        assert isinstance(model, VisionLanguageModel)
        write_examples(self.examination, model, device, autocast, folder)

    def _match(self, model: nn.Module, device: torch.device, autocast: Autocast, indices: Tensor) -> Matched:
        parts = []
        for chosen in indices.split(EVALUATION_BATCH):
            text = spell([[self.asking.turn(self.test_set.exchanges[image][0], 0)] for image in chosen.tolist()])
            moved = Spelled(*(part.to(device) for part in text))
            with autocast():
                inputs = self.examination.inputs(chosen.tolist(), device)
                parts.append(matched(model, inputs, moved, self.options.counts[-1], chosen))
        return Matched(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def _load(self, split: Split) -> CaptionSet:
        height, width = self.spec.input_size
        rows, columns = self.options.views or (1, 1)
        return load_captions(self.data, split, (rows * height, columns * width))
