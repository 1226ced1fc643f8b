"""Position embeddings: fixed sin-cos ones, and resizing learned ones to another token grid."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from patchscale.errors import InputError

ClassRow = Literal["first", "last"] | None


def sincos_positions(grid: tuple[int, int], dim: int, *, temperature: float = 10_000.0, first_row: int = 0) -> Tensor:
    """Fixed two-dimensional sin-cos positions ("Masked Autoencoders Are Scalable Vision Learners", appendix A).

    Args:
        grid: rows and columns of the token grid.
        dim: width D, a multiple of 4: the first half encodes the row, the second the column.
        first_row: the row that the grid begins with, for a part of a larger one.

    Returns:
        [rows * cols, dim] float32.

    Raises:
        InputError: `dim` is not a multiple of 4.
    """
    if dim % 4:
        raise InputError(f"sin-cos positions need a width that is a multiple of 4, not {dim}; use {dim + -dim % 4}")
    rows, cols = grid
    rate = temperature ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))

    def axis(start: int, length: int) -> Tensor:
        angle = torch.arange(start, start + length, dtype=torch.float64)[:, None] * rate
        return torch.cat([angle.sin(), angle.cos()], dim=1)

    row = axis(first_row, rows)[:, None].expand(rows, cols, dim // 2)
    col = axis(0, cols)[None].expand(rows, cols, dim // 2)
    return torch.cat([row, col], dim=2).reshape(rows * cols, dim).float()


@lru_cache(maxsize=64)
def _resize_matrix(old: int, new: int) -> Tensor:
    """[new, old] float32: the bicubic, antialiased resize of a row of `old` values, which is linear in them."""
    with torch.inference_mode(False):  # kept for training, too, whoever asks first
        basis = torch.eye(old)[None, None]
        return F.interpolate(basis, size=(new, old), mode="bicubic", antialias=True, align_corners=False)[0, 0]


def resize_positions(
    pos: Tensor, old_grid: tuple[int, int], new_grid: tuple[int, int], class_row: ClassRow = None
) -> Tensor:
    """Resizes learned positions to another grid; the class token's row is kept as it is.

    Args:
        pos: [1, N, D] or [1, N + 1, D] with N = rows * cols of `old_grid`.
        class_row: where the class token's row is: `first` (ViT), `last` (Adventurer), or None.

    Returns:
        The same layout at `new_grid`, bicubic with antialiasing; gradients pass through.

    Raises:
        InputError: the number of rows does not match the old grid.
    """
    extra = 0 if class_row is None else 1
    count = old_grid[0] * old_grid[1]
    if pos.ndim != 3 or pos.shape[1] != count + extra:
        raise InputError(
            f"position embedding of shape {tuple(pos.shape)} does not match a {old_grid[0]}x{old_grid[1]} grid "
            f"with {extra} class row(s); expected {count + extra} rows"
        )
    if tuple(old_grid) == tuple(new_grid):
        return pos
    patches = pos[:, 1:] if class_row == "first" else pos[:, :count]
    down, across = (_resize_matrix(old, new).to(pos.device) for old, new in zip(old_grid, new_grid, strict=True))
    with torch.autocast(pos.device.type, enabled=False):
        image = torch.einsum("rh,hwd,cw->rcd", down, patches.float().reshape(*old_grid, -1), across)
    patches = image.reshape(1, new_grid[0] * new_grid[1], -1).to(pos.dtype)
    if class_row == "first":
        return torch.cat([pos[:, :1], patches], dim=1)
    if class_row == "last":
        return torch.cat([patches, pos[:, count:]], dim=1)
    return patches
