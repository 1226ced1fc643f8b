"""The published first stage: the last query of an image against its answer's text, and queries kept orthogonal.

The text embedding is that of the answer's words, here the mean of the language model's own (published: CLIP's text
encoder), cut to entries within one standard deviation. Shape letters: B batch, n queries, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchscale.tasks.captioning.text import Spelled


class Matched(NamedTuple):
    """Test images and what they are matched by."""

    indices: Tensor
    """int64 [B]."""
    queries: Tensor
    """Last query of each image, float32 [B, D]."""
    answers: Tensor
    """Embedding of each answer, float32 [B, D]."""
    gram: Tensor
    """`gram_loss` of each image, float32 [B]."""
    scale: Tensor
    """Of the logits, the same for all images, float32 [B]."""


def contrastive_loss(model: nn.Module, images: Tensor, text: Spelled, count: int, weight: float) -> Tensor:
    """Symmetric cross-entropy among the samples of this part, and `weight` times `gram_loss`."""
    fused, answer = contrastive_parts(model, images, text, count)
    scale: Any = model.scale
    return matching_loss(fused[:, -1], answer, scale.exp()) + weight * gram_loss(fused)


def contrastive_parts(model: nn.Module, images: Tensor, text: Spelled, count: int) -> tuple[Tensor, Tensor]:
    """Fused tokens [B, n, D] and the embedding of each answer [B, D]."""
    whole: Any = model
    fused = whole.fused(images, text.question, count)
    return fused, text_embedding(whole, text).to(fused.dtype)


def text_embedding(model: Any, text: Spelled) -> Tensor:
    """The embedding of each answer in the fusion's space, [B, D]."""
    words = model.language.embedding(text.following)
    counted = text.counted[..., None].to(words.dtype)
    return trimmed(model.text((words * counted).sum(1) / counted.sum(1)))


def trimmed(rows: Tensor) -> Tensor:
    """Rows [B, D] whose entries beyond one standard deviation from the row's mean are zero."""
    deviation = rows - rows.mean(1, keepdim=True)
    return rows.masked_fill(deviation.abs() > rows.std(1, keepdim=True), 0.0)


def matching_loss(queries: Tensor, answers: Tensor, scale: Tensor) -> Tensor:
    """Cross-entropy of finding the answer among the batch's, and the image among the batch's; [B, D] each."""
    logits = scale * F.normalize(queries.float(), dim=1) @ F.normalize(answers.float(), dim=1).T
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def gram_loss(rows: Tensor) -> Tensor:
    """Mean squared distance of the Gram matrix of normalised rows [B, n, D] from the identity; 0 if orthogonal."""
    unit = F.normalize(rows.float(), dim=2)
    gram = unit @ unit.transpose(1, 2)
    return (gram - torch.eye(rows.shape[1], device=rows.device)).square().mean()


def matched(model: nn.Module, images: Tensor, text: Spelled, count: int, indices: Tensor) -> Matched:
    """What test images contribute to `matching_scores`."""
    whole: Any = model
    fused, answer = contrastive_parts(model, images, text, count)
    gram = torch.stack([gram_loss(rows[None]) for rows in fused])
    scale = whole.scale.detach().exp().expand(len(indices))
    return Matched(indices, *(part.float().cpu() for part in (fused[:, -1], answer, gram, scale)))


def matching_scores(parts: Sequence[Matched], weight: float) -> dict[str, float]:
    """`test_loss` and `retrieval`: the share of images whose answer is nearest, among all test images."""
    order = torch.cat([part.indices for part in parts]).argsort()
    queries, answers, gram, scale = (torch.cat([part[field] for part in parts])[order] for field in range(1, 5))
    nearest = (F.normalize(queries, dim=1) @ F.normalize(answers, dim=1).T).argmax(1)
    loss = matching_loss(queries, answers, scale[0]) + weight * gram.mean()
    return {
        "test_loss": loss.item(),
        "gram_loss": gram.mean().item(),
        "retrieval": (nearest == torch.arange(len(order))).double().mean().item(),
    }
