"""Encoding images too long to be held as tokens: each band is cut into patches, reduced, and only what is kept goes on.

Shape letters: h rows of a band in pixels, W width, p patch size, n tokens of a band, K kept of all, D width.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from patchscale.errors import InputError
from patchscale.models.adventurer import Adventurer
from patchscale.models.reduction import blocks_of
from patchscale.tokens import patchify, sincos_positions
from patchscale.tokens.reducers import Reducer


class LongFeatures(NamedTuple):
    """What `encode_long` found.

    Attributes:
        features: [1 + K, D] after the last norm, the class token where the encoder has it (first, or last).
        kept: int64 [K], places of the kept tokens in the whole token grid, row by row.
        grid: rows and columns of tokens of the whole image.
    """

    features: Tensor
    kept: Tensor
    grid: tuple[int, int]


@torch.no_grad()
def encode_long(
    model: nn.Module,
    bands: Iterable[Tensor],
    reducer: Reducer,
    keep: int,
    *,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    background: float = 1.0,
) -> LongFeatures:
    """Runs an encoder with sin-cos positions on the tokens that a reducer keeps of each band.

    The reducer chooses by the patches' difference to the background, so that an empty margin has no energy; tokens of
    one band are all that is held at a time.

    Args:
        model: a DeiT or Adventurer with `positions="sincos"`, in evaluation mode.
        bands: uint8 [3, h, W] from top to bottom, all of one width, sides multiples of p.
        reducer: one that chooses tokens, such as "qr".
        keep: tokens kept of each band at most.
        mean, std: of the normalisation, per channel, 0 to 1.
        background: value of empty paper, 0 to 1.

    Raises:
        InputError: learned positions, a reducer whose rows are no tokens, bands of different widths, or none.
    """
    if getattr(model, "positions", None) != "sincos":
        raise InputError("an image of any length needs positions of any length; build the model with positions sincos")
    embed, p = model.patch_embed, int(model.patch_embed.patch_size[0])  # type: ignore[union-attr]
    dim, kept, rows, first, cols = int(model.embed_dim), [], [], 0, 0  # type: ignore[arg-type]
    scale = torch.tensor([mean, std])[:, :, None, None]
    for band in bands:
        if cols and band.shape[2] != cols * p:
            raise InputError(f"a band is {band.shape[2]} pixels wide, those above it {cols * p}; pad them to one width")
        high, cols = band.shape[1] // p, band.shape[2] // p
        pixels = band.float() / 255
        found = reducer(patchify(pixels[None] - background, p), keep, grid=(high, cols))
        if bool((found.source[found.mask] if found.mask is not None else found.source).min() < 0):
            raise InputError(f"{type(reducer).__name__} makes rows that are no tokens; use a reducer that chooses")
        source = found.source[0]
        tokens = embed.norm(embed.embed((pixels - scale[0])[None] / scale[1]))[0]  # type: ignore[union-attr, operator]
        where = sincos_positions((high, cols), dim, first_row=first)
        rows.append(tokens[source] + where.to(tokens)[source])
        kept.append(source + first * cols)
        first += high
    if not rows:
        raise InputError("there are no bands to encode")
    cls = model.cls_token[0]  # type: ignore[index]
    last = isinstance(model, Adventurer)
    x = torch.cat([*rows, cls] if last else [cls, *rows])[None]  # the class row of sin-cos positions is zero
    x = x if last else model.norm_pre(x)  # type: ignore[operator]
    for block in blocks_of(model):
        x = block(x)
    x = (model.norm_f if last else model.norm)(x)  # type: ignore[operator]
    return LongFeatures(x[0], torch.cat(kept), (first, cols))
