"""A causal decoder of Llama's build (RMSNorm, rotary positions, SwiGLU, no biases): the fusion and the language model.

Shape letters: B batch, L sequence, D width, H heads, P head width, F hidden width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchscale.errors import InputError

ROTARY_BASE = 10_000.0


class DecoderBlock(nn.Module):
    """x + attention(norm(x)), then x + SwiGLU(norm(x)).

    Args:
        width: D.
        heads: H.
        hidden: F.
    """

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.up, self.gate = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, turns: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """[B, L, D] -> [B, L, D].

        Args:
            turns: cosines and sines of the positions, [L, P / 2] or [B, 1, L, P / 2] each.
            mask: bool [B, 1, L, L], True where a row may look; None: at itself and everything before.
        """
        batch, length, width = x.shape
        query, key, value = self._query_key_value(x, turns)
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=mask is None)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        rows = self.norm2(x)
        return x + self.down(F.silu(self.gate(rows)) * self.up(rows))

    def attention(self, x: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
        """Where each row looks, [B, H, L, L]: weights over itself and everything before, that add up to one."""
        query, key, _ = self._query_key_value(x, turns)
        scores = query.float() @ key.float().transpose(2, 3) / math.sqrt(query.shape[3])
        later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).triu(1)
        return scores.masked_fill(later, -math.inf).softmax(3)

    def _query_key_value(self, x: Tensor, turns: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """[B, H, L, P] each, positions turned in."""
        batch, length, _ = x.shape
        query, key, value = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return rotated(query, turns), rotated(key, turns), value


class Decoder(nn.Module):
    """Blocks and a last norm on embedded rows.

    Args:
        width: D.
        depth: blocks.
        heads: H; must divide D into even head widths.
        hidden: F; 4 D by default.

    Raises:
        InputError: heads that do not fit the width.
    """

    def __init__(self, width: int, depth: int, heads: int, hidden: int | None = None) -> None:
        super().__init__()
        if width % (2 * heads):
            raise InputError(f"width {width} does not give each of {heads} heads an even width; change one of them")
        self.width, self.head_width = width, width // heads
        self.blocks = nn.ModuleList(DecoderBlock(width, heads, hidden or 4 * width) for _ in range(depth))
        self.norm = nn.RMSNorm(width)
        for name, weight in self.named_parameters():
            if weight.ndim == 2 and not weight.is_meta:
                last = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(weight, std=weight.shape[1] ** -0.5 / (math.sqrt(2 * depth) if last else 1))

    def forward(self, x: Tensor, positions: Tensor, mask: Tensor | None = None) -> Tensor:
        """Rows [B, L, D] at integer positions [L] or [B, L]; see `DecoderBlock` for `mask`."""
        turns = turns_at(positions, self.head_width)
        for block in self.blocks:
            x = block(x, turns, mask)
        return self.norm(x)

    def attention(self, x: Tensor, positions: Tensor) -> list[Tensor]:
        """Where the rows of every block look, [B, H, L, L] each, without a mask."""
        turns, found = turns_at(positions, self.head_width), []
        for block in self.blocks:
            found.append(block.attention(x, turns))  # pyright: ignore[reportCallIssue]
            x = block(x, turns, None)
        return found


def turns_at(positions: Tensor, head_width: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines [..., L, P / 2] of rotary positions (Su et al. 2104.09864); batched ones gain a head axis."""
    half = torch.arange(head_width // 2, device=positions.device, dtype=torch.float32)
    angles = positions[..., None].float() * ROTARY_BASE ** (-2 * half / head_width)
    if positions.ndim == 2:
        angles = angles[:, None]
    return angles.cos(), angles.sin()


def rotated(rows: Tensor, turns: tuple[Tensor, Tensor]) -> Tensor:
    """Rows [B, H, L, P] with their halves turned against each other, as in Llama's released weights."""
    cosine, sine = (part.to(rows.dtype) for part in turns)
    first, second = rows.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1)


def decoder_cost(width: int, depth: int, hidden: int, length: int) -> int:
    """Forward FLOPs of a `Decoder` on one sequence: a multiply-add as 2, attention on the whole square."""
    per_row = 4 * width**2 + 3 * width * hidden
    return 2 * depth * (length * per_row + 2 * length**2 * width)
