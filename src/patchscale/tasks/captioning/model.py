"""The small vision-language model: encoder, fusion, bottleneck, language model.

Shape letters: B batch, V views, N image tokens of a view, Q question words, T words, n vision tokens, D widths.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchscale import models
from patchscale.tasks.captioning.fusion import Bottleneck, Fusion, Merge
from patchscale.tasks.captioning.language import HubLanguage, SmallLanguage
from patchscale.tasks.captioning.options import Options
from patchscale.tasks.task import ModelSpec


def views(options: Options) -> int:
    """V: the whole image and its parts."""
    return 1 if options.views is None else 1 + options.views[0] * options.views[1]


def image_rows(spec: ModelSpec, options: Options) -> int:
    """Rows of the image in the fusion, V N."""
    rows, columns = (side // spec.patch_size for side in spec.input_size)
    tokens = math.ceil(rows / 2) * math.ceil(columns / 2) + 1 if options.merge else rows * columns
    return views(options) * tokens


class VisionLanguageModel(nn.Module):
    """Answers questions about images through n vision tokens.

    Args:
        spec: the encoder, built without a head.
        words: size of the vocabulary.
        options: of everything else.

    Raises:
        InputError: parts that do not fit together.
    """

    def __init__(self, spec: ModelSpec, words: int, options: Options) -> None:
        super().__init__()
        self.options, self.input_size = options, spec.input_size
        self.encoder: Any = models.create(spec.name, num_classes=0, **spec.arguments)
        width, most = self.encoder.num_features, options.queries or options.counts[-1]
        self.merge = Merge(width) if options.merge else None
        fusion = (options.fusion_width, options.fusion_depth, options.fusion_heads)
        places = image_rows(spec, options) if options.fusion_places else 0
        self.fusion = Fusion(width, words, most, *fusion, places)
        self.language: Any = (
            SmallLanguage(
                words,
                most,
                options.language_width,
                options.language_depth,
                options.language_heads,
                options.language_hidden,
                options.language_places,
            )
            if options.backbone is None
            else HubLanguage(options.backbone)
        )
        self.bottleneck = Bottleneck(options.fusion_width, options.bottleneck, self.language.width, most)
        self.scale = nn.Parameter(torch.tensor(2.659)) if options.objective == "contrastive" else None
        self.text = (
            nn.Linear(self.language.width, options.fusion_width, bias=False)
            if options.objective == "contrastive"
            else None
        )
        for part in options.frozen:
            getattr(self, part).requires_grad_(False)

    def image_tokens(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, V N, D]; the canvas is cut into views where the options name them."""
        views = self.cut(images)
        flat = views.flatten(0, 1)
        maps = self.encoder.forward_intermediates(flat, indices=1, norm=True, intermediates_only=True)[-1]
        rows = maps.flatten(2).transpose(1, 2) if self.merge is None else self.merge(maps)
        return rows.reshape(len(images), -1, rows.shape[2])

    def cut(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, V, 3, h, w]: the whole, reduced to the encoder's size, then its parts row by row."""
        if self.options.views is None:
            return images[:, None]
        rows, columns = self.options.views
        height, width = self.input_size
        whole = F.interpolate(images, size=(height, width), mode="bilinear", antialias=True)[:, None]
        parts = images.unflatten(3, (columns, width)).unflatten(2, (rows, height))
        return torch.cat([whole, parts.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)], dim=1)

    def fused(self, images: Tensor, question: Tensor | None, count: int) -> Tensor:
        """Fused tokens [B, n, D] before the bottleneck; `question` int64 [B, Q] where it is inside the fusion."""
        asked = question if self.options.question == "inside" else None
        return self.fusion(self.image_tokens(images), asked, count)

    def vision(self, images: Tensor, question: Tensor | None, count: int, noise: Tensor | None = None) -> Tensor:
        """Vision tokens [B, n, D] as the language model takes them; see `Bottleneck` for `noise`."""
        return self.bottleneck(self.fused(images, question, count), noise)

    def forward(
        self, images: Tensor, question: Tensor | None, words: Tensor, count: int, noise: Tensor | None = None
    ) -> Tensor:
        """Logits [B, T, K] of the word after each of `words` int64 [B, T], having seen n = `count` vision tokens."""
        return self.language(self.vision(images, question, count, noise), words)

    @torch.no_grad()
    def generate(self, vision: Tensor, question: Tensor, end: int, most: int) -> Tensor:
        """Most probable words, one after the other, int64 [B, up to `most`]; after `end`, `end` again.

        Args:
            vision: [B, n, D].
            question: int64 [B, Q], without padding.
            end: number of the word that ends an answer.
            most: longest answer.
        """
        words, count = question, question.shape[1]
        ended = torch.zeros(len(question), dtype=torch.bool, device=question.device)
        while words.shape[1] < count + most and not ended.all():
            following = self.language(vision, words)[:, -1].argmax(1).masked_fill(ended, end)
            ended |= following == end
            words = torch.cat([words, following[:, None]], dim=1)
        return words[:, count:]
