"""How far two inputs are apart in hidden space after n tokens, D(n), and the cosines psi that the theory speaks of.

All prefixes in one pass, O(n d) for each pair: with U_n the sum of the first n unit vectors u_i, the sum of <u_i, u_j>
over i != j is |U_n|^2 - n, and over two inputs <U_n^A, U_n^B> - sum_i <u_i^A, u_i^B>. Source: 2412.18387 and the figure
script of its repository. Shape letters: S pairs of inputs, n positions, d width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from patchscale.errors import InputError
from patchscale.tasks.captioning.language import HubLanguage
from patchscale.tasks.captioning.model import VisionLanguageModel
from patchscale.tasks.captioning.text import HubSpeller


@dataclass(frozen=True)
class Divergence:
    """Of every prefix of n = 1, 2, ... positions, averaged over pairs of inputs; float64 [n] each.

    Attributes:
        distance: mean of D(n), the norm of the accumulated difference.
        deviation: standard deviation of D(n) over pairs.
        psi_eq: cosine at the same position of different inputs.
        psi_same: cosine of different positions of one input, the mean of both inputs.
        psi_first: the same of the first input alone.
        psi_second: of the second.
        psi_cross: cosine of different positions of different inputs. Cosines of two positions are NaN at n = 1.
        pairs: S.
    """

    distance: np.ndarray
    deviation: np.ndarray
    psi_eq: np.ndarray
    psi_same: np.ndarray
    psi_first: np.ndarray
    psi_second: np.ndarray
    psi_cross: np.ndarray
    pairs: int

    @property
    def tokens(self) -> np.ndarray:
        """n: 1, 2, ..."""
        return np.arange(1, len(self.distance) + 1)

    @property
    def bound(self) -> np.ndarray:
        """sqrt(Upsilon(n)) with the cosines measured at each n."""
        tokens = self.tokens
        terms = tokens * (1 - self.psi_eq) + np.where(tokens > 1, (tokens**2 - tokens) * self.gap, 0.0)
        return np.sqrt(np.maximum(terms, 0.0))

    @property
    def gap(self) -> np.ndarray:
        """Delta(n) = psi_same - psi_cross, 0 at n = 1."""
        return np.nan_to_num(self.psi_same - self.psi_cross)

    @property
    def token_scale(self) -> np.ndarray:
        """n_b(n) = (1 - psi_eq) / Delta - 1; infinite where Delta is not positive."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(self.gap > 0, (1 - self.psi_eq) / self.gap - 1, np.inf)


def divergence(first: Tensor, second: Tensor) -> Divergence:
    """D(n) and the cosines of pairs of hidden states [S, n, d].

    Raises:
        InputError: shapes that differ, or no pair.
    """
    if first.shape != second.shape or first.ndim != 3 or not first.shape[0] or not first.shape[1]:
        raise InputError(
            f"hidden states {list(first.shape)} and {list(second.shape)} are no pairs; give two arrays [S, n, d]"
        )
    first, second = first.detach().double(), second.detach().double()
    distance = (first - second).cumsum(1).norm(dim=2)
    own = [F.normalize(rows, dim=2) for rows in (first, second)]
    sums = [rows.cumsum(1) for rows in own]
    count = torch.arange(1, first.shape[1] + 1, dtype=torch.float64, device=first.device)
    pairs = count**2 - count
    equal = (own[0] * own[1]).sum(2).cumsum(1)
    same = [
        (total.square().sum(2) - rows.square().sum(2).cumsum(1)) / pairs for total, rows in zip(sums, own, strict=True)
    ]
    cross = ((sums[0] * sums[1]).sum(2) - equal) / pairs
    means = [_mean(part) for part in (equal / count, (same[0] + same[1]) / 2, *same, cross)]
    spread = distance.std(0, correction=0).cpu().numpy()
    return Divergence(_mean(distance), spread, *means, pairs=len(first))


@torch.no_grad()
def vision_divergence(model: VisionLanguageModel, images: Tensor, count: int, *, layer: str = "language") -> Divergence:
    """Of n = `count` vision tokens, each image [2 S, 3, H, W] of the first half against one of the second.

    Args:
        layer: `language`: last hidden states of the language model; `fused`: what the fusion gives before the
            bottleneck.

    Raises:
        InputError: an odd number of images, or no such layer.
    """
    if len(images) % 2 or not len(images):
        raise InputError(f"{len(images)} images are no pairs; give an even number")
    if layer not in ("language", "fused"):
        raise InputError(f"unknown layer {layer!r}; use language or fused")
    if layer == "fused":
        states = model.fused(images, None, count)
    else:
        none = torch.zeros(len(images), 0, dtype=torch.int64, device=images.device)
        states = model.language.hidden(model.vision(images, None, count), none)
    return divergence(*states.chunk(2))


@torch.no_grad()
def text_divergence(name: str, rows: Sequence[dict[str, Any]], *, longest: int = 801) -> Divergence:
    """The authors' measurement on text alone: two answers to one prompt, hidden states of the answers' words.

    Every pair counts as far as its shorter answer goes; all are cut to the shortest of them, or `longest` less the
    longest prompt.

    Args:
        name: directory or hub name of a causal language model.
        rows: {"prompt": text, "chosen": text, "rejected": text} each.

    Raises:
        InputError: transformers or the model is missing, a row without these texts, or answers without words.
    """
    language, speller = HubLanguage(name).eval(), HubSpeller(name)
    nothing = torch.zeros(1, 0, language.width)
    pairs: list[tuple[Tensor, Tensor]] = []
    for number, row in enumerate(rows, 1):
        if missing := {"prompt", "chosen", "rejected"} - set(row):
            raise InputError(f"row {number} lacks {sorted(missing)}; give prompt, chosen and rejected")
        prompt = speller.encode(row["prompt"])
        states = []
        for answer in (row["chosen"], row["rejected"]):
            words = torch.tensor([[*prompt, *speller.encode(answer)][:longest]])
            states.append(language.hidden(nothing, words)[0, len(prompt) :])
        pairs.append((states[0], states[1]))
    length = min((min(len(a), len(b)) for a, b in pairs), default=0)
    if not length:
        raise InputError("no pair of answers has a word in common length; give longer answers, or a larger `longest`")
    return divergence(*(torch.stack([pair[side][:length] for pair in pairs]) for side in (0, 1)))


def _mean(values: Tensor) -> np.ndarray:
    return values.mean(0).cpu().numpy()
