"""From an encoder's tokens to n vision tokens: local merge, causal fusion with nested queries, bottleneck.

Shape letters: B batch, V views, N image tokens of a view, h x w their grid, Q question words, n queries, D widths,
b numbers of the bottleneck.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchscale.tasks.captioning.decoder import Decoder


class Merge(nn.Module):
    """A quarter of the tokens of each view, and one learned row after them: 24 x 24 becomes 144 + 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False)
        self.feed = nn.Parameter(torch.zeros(width))

    def forward(self, features: Tensor) -> Tensor:
        """[B, D, h, w] -> [B, ceil(h / 2) ceil(w / 2) + 1, D]; the nearest token is added to the convolution's."""
        merged = (self.conv(features) + features[:, :, ::2, ::2]).flatten(2).transpose(1, 2)
        return torch.cat([merged, self.feed.expand(len(merged), 1, -1)], dim=1)


class Fusion(nn.Module):
    """A causal decoder over [image | question | queries]; its outputs at the queries are the fused tokens.

    A query sees the image, the question and the queries before it, so n queries are the first n of more: one pass
    with the most queries holds the result for every smaller n.

    Args:
        image_width: of the encoder's tokens.
        words: size of the vocabulary.
        queries: the most queries, each a learned row of its own.
        width: of the decoder.
        depth: of the decoder.
        heads: of the decoder.
        places: learned rows to add to so many image rows; 0: none.
    """

    def __init__(
        self, image_width: int, words: int, queries: int, width: int, depth: int, heads: int, places: int = 0
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(image_width)
        self.enter = nn.Linear(image_width, width, bias=False)
        self.words = nn.Embedding(words, width)
        self.queries = nn.Parameter(torch.zeros(queries, width))
        self.decoder = Decoder(width, depth, heads)
        self.places = nn.Parameter(torch.zeros(places, width)) if places else None
        if not self.queries.is_meta:
            nn.init.normal_(self.queries, std=0.2)  # what a query has read outweighs what it is
            if self.places is not None:
                nn.init.normal_(self.places, std=0.7)
            nn.init.normal_(self.words.weight)

    def forward(self, image: Tensor, question: Tensor | None, count: int) -> Tensor:
        """Fused tokens [B, n, D].

        Args:
            image: [B, V N, D].
            question: word numbers int64 [B, Q], negative for padding; None to leave the question outside.
            count: n.
        """
        return self._rows(image, question, count)[:, -count:]

    def image_rows(self, image: Tensor) -> Tensor:
        """What the decoder makes of the image's own rows, [B, V N, D]; they see neither question nor queries."""
        return self._rows(image, None, 0)

    def _rows(self, image: Tensor, question: Tensor | None, count: int) -> Tensor:
        """All rows of the decoder, [B, V N + Q + n, D]."""
        rows = self.enter(self.norm(image))
        parts = [rows if self.places is None else rows + self.places]
        if question is not None:
            parts.append(self.words(question.clamp_min(0)))
        rows = torch.cat([*parts, self.queries[:count].expand(len(image), -1, -1)], dim=1)
        mask, positions = None, torch.arange(rows.shape[1], device=rows.device)
        if question is not None:
            seen = F.pad(question >= 0, (image.shape[1], count), value=True)
            positions = seen.cumsum(1) - 1  # padding takes no place, or queries would depend on the longest question
            length = rows.shape[1]
            causal = torch.ones(length, length, dtype=torch.bool, device=rows.device).tril()
            mask = causal & seen[:, None, None, :] | torch.eye(length, dtype=torch.bool, device=rows.device)
        return self.decoder(rows, positions, mask)


class Bottleneck(nn.Module):
    """b numbers between -1 and 1 for each token, and noise on them in training; then as wide as the language model.

    Without a limit on what a token carries, one or two tokens hold a small image whole and S(n) is flat. Which token
    it is need not pass: a learned row for each is added behind the bottleneck.

    Args:
        width: of the fused tokens.
        channels: b; None: a linear layer alone, as published.
        out: width of the language model.
        most: the most tokens.
    """

    def __init__(self, width: int, channels: int | None, out: int, most: int) -> None:
        super().__init__()
        self.narrow = None if channels is None else nn.Linear(width, channels)
        self.widen = nn.Linear(channels or width, out, bias=False)
        self.place = None if channels is None else nn.Parameter(torch.zeros(most, out))
        if not self.widen.weight.is_meta:
            nn.init.normal_(self.widen.weight, std=0.001 if self.place is None else 0.5)
            if self.narrow is not None and self.place is not None:
                nn.init.normal_(self.narrow.weight, std=1.5 * width**-0.5)  # images differ by more than the noise
                nn.init.zeros_(self.narrow.bias)
                nn.init.normal_(self.place, std=0.7)

    def forward(self, fused: Tensor, noise: Tensor | None = None) -> Tensor:
        """[B, n, D] -> [B, n, out]; `noise` [B, n, b] is added to the numbers."""
        if self.narrow is None or self.place is None:
            return self.widen(fused)
        numbers = self.narrow(fused).tanh()
        rows = self.widen(numbers if noise is None else numbers + noise)
        return rows + self.place[: rows.shape[1]]
