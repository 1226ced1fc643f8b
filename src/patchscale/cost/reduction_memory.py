"""What a reducer keeps for the backward pass, and what it holds while it chooses.

Letters: N rows before, K kept, D width, n rows of a QR window, r bytes of the residual stream, c bytes of what matrix
products read and write. Indices take 8 bytes, scores 4. A choice keeps two indices a kept row; a merge one a row and
the kept rows' masses, ToMe three a row for its rounds. The learned ones keep, as their layers are written:

    filtering           D of N rows: the tokens, their copy, the norm's output and what the expert's four layers read
                        (3 at r, 4 at c); D of K rows: 3 at r, 1 at c; N x K probabilities; K x K products of slots
    filtering_released  D of N rows: 2 at r, 4 at c; N x K probabilities, and their sum over the batch
    soft_moe            D of N rows, plain and normalised, and N x K logits and weights, at 4 bytes
"""

from __future__ import annotations

from patchscale.cost.reduction import TokenReduction, qr_window, visionzip_merged
from patchscale.cost.shapes import ModelShape

INDEX, FLOAT, DOUBLE = 8, 4, 8
CHOICES, MERGES = ("random", "attention", "qr"), ("pool", "kmeans", "visionzip")


def reducer_bytes(
    shape: ModelShape, tokens: int, reduction: TokenReduction, residual: int, compute: int, batch_size: int
) -> int:
    """Bytes of one image that the backward pass of a reducer needs.

    Args:
        shape: the encoder.
        tokens: N, the class token not counted.
        reduction: which, and K.
        residual: r.
        compute: c.
        batch_size: images of the pass, which share the released filtering's statistics.
    """
    dim, kept = shape.embed_dim, reduction.kept_tokens
    rows = tokens + (reduction.class_token == "routed")
    if reduction.reducer in CHOICES:
        return 2 * INDEX * kept
    if reduction.reducer in MERGES:
        return INDEX * rows + (INDEX + FLOAT) * kept
    if reduction.reducer == "tome":
        return 3 * INDEX * rows
    if reduction.reducer == "soft_moe":
        return 2 * FLOAT * rows * (dim + kept)
    if reduction.reducer == "filtering_released":
        return rows * dim * (2 * residual + 4 * compute) + (FLOAT + FLOAT // batch_size) * rows * kept
    slots = kept * dim * (3 * residual + compute) + FLOAT * kept * kept
    return rows * dim * (3 * residual + 4 * compute) + FLOAT * rows * kept + slots


def choosing_bytes(shape: ModelShape, tokens: int, reduction: TokenReduction, residual: int, compute: int) -> int:
    """Bytes of one image that a reducer holds at its peak and gives back: the tokens, and what it compares them with.

    Args:
        shape, tokens, reduction, residual, compute: as of `reducer_bytes`.
    """
    dim, kept = shape.embed_dim, reduction.kept_tokens
    rows = tokens + (reduction.class_token == "routed")
    attention = rows * (dim * residual + 3 * dim * compute)
    unit = rows * dim * FLOAT
    window = qr_window(shape, rows, reduction)
    held = {
        "attention": attention,
        "visionzip": max(attention, unit + FLOAT * rows * visionzip_merged(kept)),
        "tome": unit + FLOAT * (rows // 2) * (rows - rows // 2),
        "kmeans": unit + 2 * FLOAT * rows * kept,
        "qr": max(DOUBLE * rows * (dim + window + min(kept, window)), unit + FLOAT * rows * kept),
    }
    return rows * dim * residual + held.get(reduction.reducer, 0)
