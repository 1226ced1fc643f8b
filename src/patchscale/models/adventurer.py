"""Adventurer: a causal Mamba-2 vision encoder ("Causal Image Modeling for Efficient Visual Understanding").

B batch, N tokens of the image, D width. The class token is row N, the last; see `Adventurer`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from timm.layers.weight_init import trunc_normal_
from timm.models._features import feature_take_indices
from torch import Tensor, nn
from torch.nn.modules import module as module_state
from torch.utils.checkpoint import checkpoint

from patchscale.errors import InputError
from patchscale.mixers import Mamba2, RMSNorm
from patchscale.models.block import AdventurerBlock
from patchscale.models.deit import Positions, check_positions
from patchscale.tokens import ExtendedPatchEmbed, PatchEmbed, resize_positions, sincos_positions

Flip = Literal["paper", "released"]


def flipped_blocks(depth: int, flip: Flip) -> tuple[int, ...]:
    """Indices of the blocks that read the tokens in reverse.

    `paper`: every second pair of blocks, (i // 2) % 2 == 1. `released`: i // 2 == 1, so blocks 2 and 3 only, whatever
    the depth; the published weights were trained with it.
    """
    if flip not in ("paper", "released"):
        raise InputError(f"unknown flip rule {flip!r}; use paper or released")
    return tuple(i for i in range(depth) if ((i // 2) % 2 == 1 if flip == "paper" else i // 2 == 1))


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """Stochastic depth per block: 0 for the first, then linspace(0, rate, depth)[i - 1]."""
    return [0.0, *torch.linspace(0, rate, depth, device="cpu").tolist()[: depth - 1]]


class Adventurer(nn.Module):
    """The Adventurer with the state-dict names of the released weights.

    Args:
        img_size: height and width, or one number for both.
        patch_size: p; N = (height / p)(width / p) tokens in row-major order.
        embed_dim, depth, mlp_ratio: width D, number of blocks, hidden width int(mlp_ratio * D) of the SwiGLU.
        flip: `paper` for new models, `released` for the published weights; see `flipped_blocks`.
        positions: `learned`, or `sincos`: fixed, zeros in the class row, not trained.
        sequence_extension: interpolates the tokens to so many times the rows and columns (`ExtendedPatchEmbed`).
        global_pool: `token` (the class token's row), `avg` (mean of the patch rows) or `` (no pooling).
        drop_path_rate: see `drop_path_rates`.
        dynamic_img_size: accept any image size, resizing the positions on the fly.
        d_state, d_conv, expand, headdim, chunk_size, backend: of the mixer.

    Raises:
        InputError: sizes that do not fit together, unknown flip rule, positions or pooling.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        num_classes: int = 1000,
        global_pool: str = "token",
        embed_dim: int = 768,
        depth: int = 12,
        mlp_ratio: float = 2.5,
        d_state: int = 64,
        d_conv: int = 4,
        expand: int = 2,
        headdim: int = 64,
        flip: Flip = "paper",
        positions: Positions = "learned",
        sequence_extension: int = 1,
        drop_rate: float = 0.0,
        pos_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        dynamic_img_size: bool = False,
        chunk_size: int | None = None,
        backend: str = "auto",
        device=None,
        dtype=None,
    ):
        super().__init__()
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        check_positions(positions)
        self.num_classes, self.in_chans, self.flip, self.positions = num_classes, in_chans, flip, positions
        self.embed_dim = self.num_features = self.head_hidden_size = embed_dim
        self.num_prefix_tokens, self.dynamic_img_size, self.grad_checkpointing = 1, dynamic_img_size, False
        self.global_pool = _checked_pool(global_pool)
        fmt = {"strict_img_size": False, "output_fmt": "NHWC"} if dynamic_img_size else {}
        self.sequence_extension = sequence_extension
        extended = {"extension": sequence_extension} if sequence_extension != 1 else {}
        patches = ExtendedPatchEmbed if extended else PatchEmbed
        self.patch_embed = patches(img_size, patch_size, in_chans, embed_dim, **fmt, **extended, **dd)
        rows = self.patch_embed.num_patches + 1
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim, **dd))
        self.pos_embed = nn.Parameter(torch.zeros(1, rows, embed_dim, **dd), requires_grad=positions == "learned")
        self.pos_drop = nn.Dropout(pos_drop_rate)
        flips, rates = flipped_blocks(depth, flip), drop_path_rates(drop_path_rate, depth)
        mixer = {
            "d_state": d_state,
            "d_conv": d_conv,
            "expand": expand,
            "headdim": headdim,
            "chunk_size": chunk_size,
            "backend": backend,
        }
        self.layers = nn.ModuleList(
            AdventurerBlock(embed_dim, int(mlp_ratio * embed_dim), i in flips, rates[i], mixer, **dd)
            for i in range(depth)
        )
        self.feature_info = [
            {"module": f"layers.{i}", "num_chs": embed_dim, "reduction": patch_size} for i in range(depth)
        ]
        self.norm_f = RMSNorm(embed_dim, **dd)
        self.head_drop = nn.Dropout(drop_rate)
        self.head = nn.Linear(embed_dim, num_classes, **dd) if num_classes > 0 else nn.Identity()
        self.init_weights()

    @torch.no_grad()
    def init_weights(self) -> None:
        """Truncated normal (0.02) for linear weights, class token and learned positions; the mixers' own rules."""
        if self.cls_token.is_meta:
            return
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, Mamba2):
                module.init_dynamics()
        trunc_normal_(self.cls_token, std=0.02)
        if self.positions == "learned":
            trunc_normal_(self.pos_embed, std=0.02)
        else:
            self._fix_positions()

    @torch.no_grad()
    def _fix_positions(self) -> None:
        table = self.fixed_positions(self.patch_embed.grid_size)
        self.pos_embed = nn.Parameter(table.to(self.pos_embed), requires_grad=False)

    def fixed_positions(self, grid: tuple[int, int]) -> Tensor:
        """Sin-cos positions [1, N + 1, D] of a grid, zeros in the class row."""
        return F.pad(sincos_positions(grid, self.embed_dim), (0, 0, 0, 1))[None]

    def forward(self, x: Tensor, progress: Callable[[int, int], None] | None = None) -> Tensor:
        """[B, 3, H, W] -> logits [B, classes].

        Without gradients (and in eval mode) the blocks run in place, one after the other, in tiles: memory beyond one
        residual stream is constant. Where hooks see the blocks they do not, because a hook may keep what it sees.
        `progress(done, depth)` is called after each block.
        """
        x = self.embed(x)
        free = not (torch.is_grad_enabled() or self.training or _hooked(self.pos_drop, *self.layers))
        for i, layer in enumerate(self.layers):
            x = layer(x, inplace=True) if free else self._run(layer, x)
            if progress is not None:
                progress(i + 1, len(self.layers))
        return self.forward_head(self.norm_f(x[:, -1:] if self.global_pool == "token" else x))

    def embed(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, N + 1, D]: patches, class token last, positions added."""
        lean = not (torch.is_grad_enabled() or self.dynamic_img_size or self.training)
        if lean and self.sequence_extension == 1:
            return self._embed_lean(x)
        x = self.patch_embed(x)
        pos = self.pos_embed
        if self.dynamic_img_size:
            grid = (x.shape[1], x.shape[2])
            if grid != self.patch_embed.grid_size:
                pos = resize_positions(pos, self.patch_embed.grid_size, grid, class_row="last")
            x = x.flatten(1, 2)
        return self.pos_drop(torch.cat([x, self.cls_token.expand(x.shape[0], -1, -1)], dim=1) + pos)

    def _embed_lean(self, x: Tensor) -> Tensor:
        """`embed` for inference: one buffer, filled a band of the image at a time."""
        cols, p = self.patch_embed.grid_size[1], self.patch_embed.patch_size[0]
        step = max(1, 65_536 // cols)
        self.patch_embed.check_size(x)
        out = x.new_empty(x.shape[0], self.patch_embed.num_patches + 1, self.embed_dim, dtype=self.cls_token.dtype)
        for i, band in enumerate(x.split(step * p, dim=2)):
            rows = self.patch_embed.norm(self.patch_embed.embed(band))
            out[:, i * step * cols : i * step * cols + rows.shape[1]] = rows
        out[:, -1:] = self.cls_token
        return out.add_(self.pos_embed)

    def forward_features(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, N + 1, D] after the last norm; the class token is the last row."""
        x = self.embed(x)
        for layer in self.layers:
            x = self._run(layer, x)
        return self.norm_f(x)

    def _run(self, layer: nn.Module, x: Tensor) -> Tensor:
        if self.grad_checkpointing and torch.is_grad_enabled():
            return checkpoint(layer, x, use_reentrant=False)
        return layer(x)

    def pool(self, x: Tensor, pool_type: str | None = None) -> Tensor:
        """[B, N + 1, D] -> [B, D] (unchanged when there is no pooling)."""
        kind = self.global_pool if pool_type is None else _checked_pool(pool_type)
        return x[:, -1] if kind == "token" else x[:, :-1].mean(dim=1) if kind == "avg" else x

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """[B, N + 1, D] -> logits, or the pooled features when `pre_logits`."""
        x = self.head_drop(self.pool(x))
        return x if pre_logits else self.head(x)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> Any:
        """Block outputs as timm's: last n for an int, all for None, else those of `indices`.

        Returns:
            (final features [B, N + 1, D], list of [B, D, rows, cols] or [B, N, D]); pairs with the class row
            [B, 1, D] when `return_prefix_tokens`; the list alone when `intermediates_only`.

        Raises:
            InputError: `output_fmt` is neither NCHW nor NLC.
        """
        if output_fmt not in ("NCHW", "NLC"):
            raise InputError(f"unknown output_fmt {output_fmt!r}; use NCHW or NLC")
        taken, last = feature_take_indices(len(self.layers), indices)  # type: ignore[arg-type]
        grid = self.patch_embed.dynamic_feat_size((x.shape[-2], x.shape[-1]))
        found: list[Any] = []
        x = self.embed(x)
        for i, layer in enumerate(self.layers):
            if stop_early and i > last:
                break
            x = self._run(layer, x)
            if i in taken:
                y = self.norm_f(x) if norm else x
                patches = y[:, :-1]
                if output_fmt == "NCHW":
                    patches = patches.unflatten(1, grid).permute(0, 3, 1, 2).contiguous()
                found.append((patches, y[:, -1:]) if return_prefix_tokens else patches)
        return found if intermediates_only else (self.norm_f(x), found)

    def prune_intermediate_layers(self, indices=1, prune_norm: bool = False, prune_head: bool = True) -> list[int]:
        """Drops the blocks after the last wanted one (and norm or head), as timm's."""
        taken, last = feature_take_indices(len(self.layers), indices)
        self.layers = self.layers[: last + 1]
        if prune_norm:
            self.norm_f = nn.Identity()
        if prune_head:
            self.reset_classifier(0, "")
        return taken

    def get_classifier(self) -> nn.Module:
        """The linear head."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A new head for `num_classes` (0: none), optionally with another pooling."""
        self.num_classes = num_classes
        self.global_pool = self.global_pool if global_pool is None else _checked_pool(global_pool)
        dd: dict[str, Any] = {"device": self.cls_token.device, "dtype": self.cls_token.dtype}
        self.head = nn.Linear(self.embed_dim, num_classes, **dd) if num_classes > 0 else nn.Identity()
        self.head.train(self.training)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block in the backward pass instead of keeping what is inside it."""
        self.grad_checkpointing = enable

    def set_input_size(self, img_size: tuple[int, int] | None = None, patch_size: int | None = None) -> None:
        """Another input size or patch size: patch weight and positions are resized, the class row is kept."""
        old = self.patch_embed.grid_size
        self.patch_embed.set_input_size(img_size=img_size, patch_size=patch_size)
        if self.positions == "sincos":
            self._fix_positions()
        else:
            pos = resize_positions(self.pos_embed.data, old, self.patch_embed.grid_size, class_row="last")
            self.pos_embed = nn.Parameter(pos)

    def no_weight_decay(self) -> set[str]:
        """Position embedding, class token, and every one-dimensional parameter."""
        small = {name for name, p in self.named_parameters() if p.ndim <= 1}
        return {"pos_embed", "cls_token"} | small

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Parameter groups for layer-wise learning-rate decay, as timm's."""
        return {
            "stem": r"^cls_token|pos_embed|patch_embed",
            "blocks": [(r"^layers\.(\d+)", None), (r"^norm_f", (99999,))],
        }


def _hooked(*modules: nn.Module) -> bool:
    """Whether a forward hook sees what goes through these modules."""
    if module_state._global_forward_hooks or module_state._global_forward_pre_hooks:
        return True
    return any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def _checked_pool(kind: str) -> str:
    if kind not in ("", "token", "avg"):
        raise InputError(f"unknown global_pool {kind!r}; use token, avg or an empty string")
    return kind
