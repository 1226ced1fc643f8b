"""A reducer before any block of any encoder: block i sees K rows instead of N, and so do all after it.

The encoder's own code and state-dict names stay as they are: the reducer is a submodule, `reduction`, that a hook of
block i calls. Shape letters: B batch, P prefix rows (class token), N tokens, K kept, D width, L = P + K rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from patchscale.errors import InputError
from patchscale.models.adventurer import Adventurer
from patchscale.tokens.reducers import Reduced, build_reducer

ClassToken = Literal["kept", "routed"]


class Reduction(nn.Module):
    """Reduces the rows that enter one block.

    Args:
        model: the encoder: a timm ViT or an Adventurer.
        name: of the reducer.
        kept_tokens: K, the class token not counted; `keeping` changes it for a while, to fewer.
        before: index of the block whose input is reduced.
        class_token: "kept": the class token is no candidate and stays beside the K rows; "routed": it is reduced like
            any token, and K rows are all there are, as in the released filtering.
        proportional: let attention weigh merged rows by their tokens (ToMe's log-mass term). ViT only.
        **options: of the reducer.

    Raises:
        InputError: no such block, too few tokens, or what this encoder cannot do.
    """

    def __init__(
        self,
        model: nn.Module,
        name: str,
        kept_tokens: int,
        *,
        before: int = 0,
        class_token: ClassToken = "kept",
        proportional: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        embed: Any = model.patch_embed
        self.causal = isinstance(model, Adventurer)
        self.prefix = int(getattr(model, "num_prefix_tokens", 1)) if class_token == "kept" else 0
        self.grid = tuple(embed.grid_size) if class_token == "kept" else None
        self.kept_tokens, self.before = kept_tokens, before
        self.name, self.proportional = name, proportional
        _check(self, class_token, len(blocks_of(model)), embed.num_patches)
        dim = int(model.embed_dim)  # type: ignore[arg-type]
        self.reducer = build_reducer(name, dim=dim, slots=kept_tokens, **options)
        self.bias: Tensor | None = None

    def enter(self, block: nn.Module, args: tuple[Tensor], kwargs: dict[str, Any]) -> tuple[tuple[Tensor], dict]:
        """Forward pre-hook of block `before`: [B, P + N, D] becomes [B, P + K, D]."""
        x = args[0]
        prefix, tokens = self.split(x)
        scores = class_attention(block, prefix, tokens) if self.reducer.needs_scores else None
        found = self.reducer(tokens, self.kept_tokens, grid=self.grid, scores=scores)
        self.bias = self._bias(found)
        x = torch.cat([found.tokens, prefix] if self.causal else [prefix, found.tokens], dim=1)
        return (x, *args[1:]), self._told(kwargs)

    def follow(self, block: nn.Module, args: tuple[Tensor], kwargs: dict[str, Any]) -> tuple[tuple[Tensor], dict]:
        """Forward pre-hook of the blocks after it: the same attention bias."""
        return args, self._told(kwargs)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Prefix rows [B, P, D] and tokens [B, N, D] of the residual stream."""
        first = x.shape[1] - self.prefix if self.causal else self.prefix
        head, tail = x[:, :first], x[:, first:]
        return (tail, head) if self.causal else (head, tail)

    def _bias(self, found: Reduced) -> Tensor | None:
        """What is added to attention logits, [B, 1, 1, L]: log-mass if proportional, -inf for padding."""
        if found.mask is None and not self.proportional:
            return None
        if self.causal:
            raise InputError(
                f"images of this batch keep {sorted(set(found.counts.tolist()))} tokens, and an Adventurer cannot mask "
                "padding; give a fixed number of kept tokens without tolerance, or one image at a time"
            )
        bias = found.mass.log() if self.proportional else torch.zeros_like(found.mass)
        if found.mask is not None:
            bias = bias.masked_fill(~found.mask, -torch.inf)
        return F.pad(bias, (self.prefix, 0))[:, None, None].to(found.tokens.dtype)

    def _told(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        return kwargs if self.bias is None else {**kwargs, "attn_mask": self.bias}

    def extra_repr(self) -> str:
        return f"{self.name}, kept_tokens={self.kept_tokens}, before={self.before}"


def _check(reduction: Reduction, class_token: str, depth: int, tokens: int) -> None:
    if class_token not in ("kept", "routed"):
        raise InputError(f"unknown class_token {class_token!r}; use kept or routed")
    if not 0 <= reduction.before < depth:
        raise InputError(f"before {reduction.before} is no block of this model; use 0 to {depth - 1}")
    if reduction.causal and (class_token == "routed" or reduction.proportional):
        what = "class_token routed" if class_token == "routed" else "proportional"
        raise InputError(f"{what} needs attention; an Adventurer reads its class token last, after the kept tokens")
    if not 1 <= reduction.kept_tokens <= tokens:
        raise InputError(f"kept_tokens {reduction.kept_tokens} is not between 1 and the {tokens} tokens of the image")


def blocks_of(model: nn.Module) -> nn.ModuleList | nn.Sequential:
    """The blocks of a timm ViT (`blocks`) or an Adventurer (`layers`).

    Raises:
        InputError: a model of another build.
    """
    found = getattr(model, "blocks", None) or getattr(model, "layers", None)
    if not isinstance(found, nn.ModuleList | nn.Sequential):
        raise InputError(f"{type(model).__name__} has no blocks to reduce tokens between; use a ViT or an Adventurer")
    return found


def reduce_tokens(model: nn.Module, name: str, kept_tokens: int, **options: Any) -> Reduction:
    """Puts a reducer into `model`, as its submodule `reduction`; see `Reduction` for the arguments."""
    if hasattr(model, "reduction"):
        raise InputError(f"{type(model).__name__} has a reducer already ({model.reduction}); build it without")
    reduction = Reduction(model, name, kept_tokens, **options)
    model.reduction = reduction
    blocks = blocks_of(model)
    for index, block in enumerate(blocks):
        if index >= reduction.before:
            hook = reduction.enter if index == reduction.before else reduction.follow
            block.register_forward_pre_hook(hook, with_kwargs=True)
    return reduction


def class_attention(block: nn.Module, prefix: Tensor, tokens: Tensor) -> Tensor:
    """How much the class token attends to each token, [B, N].

    In a ViT, the mean over heads of the block's own attention weights. An Adventurer has none: there, the softmax of
    the scaled products of the class token with the tokens, both normalised by the block's norm.
    """
    with torch.no_grad():
        attention = getattr(block, "attn", None)
        rows = torch.cat([prefix[:, :1], tokens], dim=1)
        if attention is None:
            rows = block.norm(rows)  # type: ignore[operator]
            return (rows[:, 1:] @ rows[:, :1].transpose(1, 2))[..., 0].div(rows.shape[2] ** 0.5).softmax(1)
        rows = block.norm1(rows)  # type: ignore[operator]
        batch, count, _ = rows.shape
        query, key, _ = attention.qkv(rows).view(batch, count, 3, attention.num_heads, -1).unbind(2)
        query, key = attention.q_norm(query[:, 0]), attention.k_norm(key[:, 1:])
        return torch.einsum("bhd,bnhd->bhn", query * attention.scale, key).softmax(2).mean(1)


@torch.no_grad()
def entering(model: nn.Module, images: Tensor, block: int) -> tuple[Tensor, Tensor]:
    """Tokens [B, N, D] that enter a block, the class token not among them, and its attention to them [B, N].

    Args:
        images: normalised [B, 3, H, W].
        block: index of the block.

    Raises:
        InputError: no such block.
    """
    blocks = blocks_of(model)
    if not 0 <= block < len(blocks):
        raise InputError(f"layer {block} is no block of this model; use 0 to {len(blocks) - 1}")
    causal, seen = isinstance(model, Adventurer), []
    handle = blocks[block].register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()), prepend=True)
    try:
        model.forward_features(images)  # type: ignore[operator]
    finally:
        handle.remove()
    prefix = int(getattr(model, "num_prefix_tokens", 1))
    first = seen[0].shape[1] - prefix if causal else prefix
    head, tail = seen[0][:, :first], seen[0][:, first:]
    prefix_rows, tokens = (tail, head) if causal else (head, tail)
    return tokens, class_attention(blocks[block], prefix_rows, tokens)


@contextmanager
def keeping(model: nn.Module, kept_tokens: int) -> Iterator[None]:
    """Lets the reducer of `model` keep another number of tokens for a while."""
    reduction = next(module for module in model.modules() if isinstance(module, Reduction))
    before, reduction.kept_tokens = reduction.kept_tokens, kept_tokens
    try:
        yield
    finally:
        reduction.kept_tokens = before
