"""Pictures of kept tokens: which patches stay, which region each stands for, and what they say of the whole.

Shape letters: H, W pixels, p patch size, N = (H/p)(W/p) tokens, K kept, D = 3 p^2.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from patchscale.tokens.complexity import span_copy, span_residual
from patchscale.tokens.patchify import grid_size, patchify
from patchscale.tokens.reducers import Reduced

DIMMED = 0.15
PANELS = ("image", "kept patches", "regions", "multiple of its own row", "best combination of rows")


class Shown(NamedTuple):
    """One line of a picture: an image reduced by one method.

    Attributes:
        title: such as "qr, p = 16, 64 of 196".
        image: float32 [3, H, W], 0 to 1.
        patch_size: p.
        reduced: the reduction of the image's tokens, batch 1.
        rows: [K, 3 p^2], the kept rows as patches.
    """

    title: str
    image: Tensor
    patch_size: int
    reduced: Reduced
    rows: Tensor


def unpatchify(patches: Tensor, size: tuple[int, int], patch_size: int) -> Tensor:
    """Patches [N, 3 p^2] back to an image [3, H, W]."""
    rows, cols = grid_size(size, patch_size)
    tiles = patches.reshape(rows, cols, 3, patch_size, patch_size).permute(2, 0, 3, 1, 4)
    return tiles.reshape(3, *size)


def rows_as_patches(patches: Tensor, reduced: Reduced) -> Tensor:
    """[K, 3 p^2], the mean patch of the tokens that a row stands for; for rows that live in another space, too."""
    count, assignment = reduced.tokens.shape[1], reduced.assignment[0]
    known = assignment >= 0
    total = patches.new_zeros(count, patches.shape[1]).index_add(0, assignment[known], patches[known])
    mass = torch.bincount(assignment[known], minlength=count)
    return total / mass.clamp_min(1)[:, None].to(total)


def panels(shown: Shown) -> tuple[list[np.ndarray], float]:
    """The five images [H, W, 3] of `PANELS`, and the share of energy outside the span of the rows.

    Regions have the mean colour of their patches; then comes each patch as the best multiple of its own row. Patches of
    dropped tokens are grey in both; where rows are slots, no patch counts as kept. Energy is that around the image's
    mean colour.
    """
    image, p = shown.image, shown.patch_size
    size = (image.shape[1], image.shape[2])
    patches = patchify(image[None], p)[0]
    mean = image.mean((1, 2)).repeat_interleave(p * p)
    source, own = shown.reduced.source[0], shown.reduced.assignment[0]
    stays = torch.zeros(len(patches), dtype=torch.bool)
    stays[source[source >= 0]] = True
    known = (own >= 0)[:, None]
    grey = torch.full_like(patches, 0.5)
    members = rows_as_patches(patches, shown.reduced).view(len(shown.rows), 3, -1)
    colours = members.mean(2, keepdim=True).expand(-1, -1, p * p).flatten(1)
    centred, rows = (patches - mean)[None], (shown.rows - mean)[None]
    mine = rows[0][own.clamp_min(0)]
    scale = (centred[0] * mine).sum(1, keepdim=True) / mine.square().sum(1, keepdim=True).clamp_min(1e-12)
    drawn = [
        patches,
        torch.where(stays[:, None], patches, 1 - DIMMED * (1 - patches)),
        torch.where(known, colours[own.clamp_min(0)], grey),
        torch.where(known, scale * mine + mean, grey),
        span_copy(centred, rows)[0].float() + mean,
    ]
    images = [unpatchify(one, size, p).clamp(0, 1).permute(1, 2, 0).numpy() for one in drawn]
    images[2] = _with_borders(images[2], own.view(size[0] // p, size[1] // p).numpy(), p)
    return images, span_residual(centred, rows).item()


def draw(lines: list[Shown], target: Path) -> list[float]:
    """Writes one PNG, a line of panels a method, and returns the residual of each line."""
    from matplotlib.figure import Figure

    height, width = lines[0].image.shape[1:]
    side = 2.6
    figure = Figure(figsize=(side * len(PANELS), len(lines) * (side * height / width + 0.34)), layout="constrained")
    residuals = []
    for axes, shown in zip(figure.subplots(len(lines), len(PANELS), squeeze=False), lines, strict=True):
        images, residual = panels(shown)
        residuals.append(residual)
        for place, image, name in zip(axes, images, PANELS, strict=True):
            place.imshow(image, interpolation="nearest")
            place.set_title(name, fontsize=8)
            place.set_axis_off()
        axes[0].set_title(shown.title, fontsize=8)
        axes[-1].set_title(f"{PANELS[-1]}: {100 * residual:.2g} % missing", fontsize=8)
    figure.savefig(target, dpi=110)
    return residuals


def _with_borders(image: np.ndarray, regions: np.ndarray, patch_size: int) -> np.ndarray:
    """White lines between patches that belong to different rows; none where patches are single pixels."""
    out = image.copy()
    if patch_size == 1:
        return out
    for row, col in np.argwhere(regions[1:] != regions[:-1]):
        out[(row + 1) * patch_size, col * patch_size : (col + 1) * patch_size] = 1.0
    for row, col in np.argwhere(regions[:, 1:] != regions[:, :-1]):
        out[row * patch_size : (row + 1) * patch_size, (col + 1) * patch_size] = 1.0
    return out
