"""Causal language models that read vision tokens before words: our own, and those of transformers.

Shape letters: B batch, n vision tokens, T words, D width, K words in the vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from patchscale.errors import InputError
from patchscale.tasks.captioning.decoder import Decoder


class SmallLanguage(nn.Module):
    """A decoder with an embedding and a linear head.

    Vision tokens have positions 0 .. n - 1 and words begin at `first_word`, whatever n is, so that one model can serve
    several n.

    Args:
        words: K.
        first_word: position of the first word, the most vision tokens there will be.
        width: D.
        depth: blocks.
        heads: of attention.
        hidden: of SwiGLU; 4 D by default.
        places: learned rows for the first words, beside rotary positions; a text can then have no more words.
    """

    def __init__(
        self,
        words: int,
        first_word: int,
        width: int,
        depth: int,
        heads: int,
        hidden: int | None = None,
        places: int = 0,
    ) -> None:
        super().__init__()
        self.first_word, self.width = first_word, width
        self.embedding = nn.Embedding(words, width)
        self.decoder = Decoder(width, depth, heads, hidden)
        self.head = nn.Linear(width, words, bias=False)
        self.places = nn.Parameter(torch.zeros(places, width)) if places else None
        if not self.embedding.weight.is_meta:
            nn.init.normal_(self.embedding.weight, std=0.5)
            nn.init.normal_(self.head.weight, std=0.02)
            if self.places is not None:
                nn.init.normal_(self.places, std=0.5)

    def hidden(self, vision: Tensor, words: Tensor) -> Tensor:
        """Last hidden states [B, n + T, D] for vision tokens [B, n, D] and words int64 [B, T]."""
        return self.decoder(*self._rows(vision, words))

    def attention(self, vision: Tensor, words: Tensor) -> list[Tensor]:
        """Where vision tokens and words look in every block, [B, H, n + T, n + T] each."""
        return self.decoder.attention(*self._rows(vision, words))

    def _rows(self, vision: Tensor, words: Tensor) -> tuple[Tensor, Tensor]:
        """Embedded rows [B, n + T, D] and their positions [n + T]."""
        count, length = vision.shape[1], words.shape[1]
        embedded = self.embedding(words)
        if self.places is not None:
            if length > len(self.places):
                raise InputError(f"a text of {length} words is longer than language_places {len(self.places)}")
            embedded = embedded + self.places[:length]
        rows = torch.cat([vision, embedded.to(vision.dtype)], dim=1)
        places = torch.arange(self.first_word, self.first_word + length, device=words.device)
        return rows, torch.cat([torch.arange(count, device=words.device), places])

    def forward(self, vision: Tensor, words: Tensor) -> Tensor:
        """Logits of the word after each of `words`, [B, T, K]."""
        return self.head(self.hidden(vision, words)[:, vision.shape[1] :])


class HubLanguage(nn.Module):
    """A causal language model of transformers, from a directory or the hub; its own positions.

    Raises:
        InputError: transformers is missing, or there is no such model.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.model: Any = load_backbone(name)
        self.width = self.model.get_input_embeddings().embedding_dim

    @property
    def embedding(self) -> nn.Embedding:
        """A row for each word."""
        return self.model.get_input_embeddings()

    def hidden(self, vision: Tensor, words: Tensor) -> Tensor:
        """See `SmallLanguage.hidden`."""
        found = self.model(inputs_embeds=self._rows(vision, words), output_hidden_states=True, use_cache=False)
        return found.hidden_states[-1]

    def forward(self, vision: Tensor, words: Tensor) -> Tensor:
        """See `SmallLanguage.forward`."""
        rows = self._rows(vision, words)
        return self.model(inputs_embeds=rows, use_cache=False, logits_to_keep=words.shape[1]).logits

    def _rows(self, vision: Tensor, words: Tensor) -> Tensor:
        embedded = self.embedding(words)
        return torch.cat([vision.to(embedded.dtype), embedded], dim=1)


def transformers() -> Any:
    """The library, imported when it is first needed.

    Raises:
        InputError: it is not installed.
    """
    try:
        import transformers  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            "this needs transformers, which is not installed; get it with: pip install 'patchscale[vlm]'"
        ) from error
    return transformers


def load_backbone(name: str) -> nn.Module:
    """The causal language model in a directory or on the hub.

    Raises:
        InputError: transformers is missing, or there is no such model.
    """
    try:
        return transformers().AutoModelForCausalLM.from_pretrained(name)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise InputError(f"no causal language model {name!r}: {first}; give a directory or a hub name") from error
