"""Every part of an encoder with its parameters and its forward FLOPs, counted by hand.

Shape letters: N tokens (class token not counted), L = N + 1 rows of the residual stream, M = N + 2 rows inside the
Mamba-2 mixer (the heading average in front), D width, F MLP hidden width, I = expand D inner width, H heads,
P head width, S state width.

Conventions: a multiply-add is 2 FLOPs; counted are matrix products, convolutions and the SSD recurrence; not counted
are norms, activations, softmax, gates and residual sums (the same choice as torch's `FlopCounterMode`). The SSD is
counted as the recurrence, the least work that defines it and the same for every backend; a head and a row cost

    u_t = dt_t x_t                   P
    h_t = a_t h_(t-1) + u_t B_t^T    3 P S
    y_t = h_t C_t                    2 P S
    y_t + D x_t                      2 P
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from patchscale.cost.reduction import TokenReduction, reducer_work
from patchscale.cost.shapes import ModelShape
from patchscale.errors import InputError


@dataclass(frozen=True)
class Term:
    """One part of the model.

    Attributes:
        stage: `patch_embed`, `positions`, `blocks`, `head`, or of a reducer `reducer` and `selection` (no gradient).
        name: the layer, such as `qkv`, summed over blocks.
        params: parameters.
        flops: forward FLOPs of one image.
    """

    stage: str
    name: str
    params: int
    flops: int


def grid_of(input_size: int | tuple[int, int], patch_size: int) -> tuple[int, int]:
    """Rows and columns of patches.

    Raises:
        InputError: the size is not positive, or the patch size does not divide it.
    """
    height, width = (input_size, input_size) if isinstance(input_size, int) else input_size
    if height < 1 or width < 1:
        raise InputError(f"input_size {height}x{width} is not positive; give pixels, such as 224 or (160, 224)")
    if patch_size < 1:
        raise InputError(f"patch_size {patch_size} is not positive; use 1 or more")
    for side, pixels in (("height", height), ("width", width)):
        if pixels % patch_size:
            both = math.gcd(height, width)
            usable = ", ".join(str(p) for p in range(1, both + 1) if both % p == 0)
            raise InputError(f"patch_size {patch_size} does not divide image {side} {pixels}; use one of {usable}")
    return height // patch_size, width // patch_size


def ssd_flops(rows: int, heads: int, headdim: int, d_state: int) -> int:
    """FLOPs of the recurrence over `rows` rows: rows H (5 P S + 3 P); see the head of this file."""
    return rows * heads * (5 * headdim * d_state + 3 * headdim)


def ssd_flops_chunked(rows: int, heads: int, headdim: int, d_state: int, chunk: int) -> int:
    """FLOPs that a chunked SSD with chunk Q really does (Mamba-2 paper, section 6), for time, not for model FLOPs.

    A row: 2 Q S (scores C B^T, shared by the heads) + H (2 Q P in the chunk + 4 P S for states in and out + 3 P).
    """
    chunk = min(chunk, rows)
    return rows * (2 * chunk * d_state + heads * (2 * chunk * headdim + 4 * headdim * d_state + 3 * headdim))


def model_terms(
    shape: ModelShape,
    *,
    tokens: int,
    patch_size: int,
    in_chans: int,
    num_classes: int,
    decoder: str | None,
    reduction: TokenReduction | None = None,
    patches: int | None = None,
) -> list[Term]:
    """All parts of one model at `tokens` tokens; their sums are the model's parameters and forward FLOPs.

    Args:
        shape: the encoder.
        tokens: N, the class token not counted.
        patch_size: p.
        in_chans: image channels.
        num_classes: rows of the head; 0 for none.
        decoder: None for a classification head on the class token, `linear` for one on every token.
        reduction: fewer tokens from some block on; None for all tokens in all blocks.
        patches: patches embedded; as many as tokens unless the sequence was extended.

    Raises:
        InputError: an unknown decoder or reducer, or a reduction that does not fit.
    """
    if decoder not in (None, "linear"):
        raise InputError(f"unknown decoder {decoder!r}; use None (class token) or 'linear' (every token)")
    dim, patch = shape.embed_dim, in_chans * patch_size**2
    blocks = _blocks(shape, tokens) if reduction is None else _reduced_blocks(shape, tokens, reduction)
    head_rows = 1 if decoder is None else tokens
    final_norm = 2 * dim if shape.family == "deit" else dim
    head = num_classes * (dim + 1)
    return [
        Term("patch_embed", "patch_embed", patch * dim + dim, 2 * (patches or tokens) * patch * dim),
        Term("positions", "class_token", dim, 0),
        Term("positions", "positions", (tokens + 1) * dim, 0),
        *blocks,
        Term("head", "norm", final_norm, 0),
        Term("head", "head", head, 2 * head_rows * dim * num_classes),
    ]


def _blocks(shape: ModelShape, tokens: int) -> list[Term]:
    block_terms = _attention_block if shape.family == "deit" else _mamba_block
    return [Term("blocks", n, shape.depth * p, shape.depth * f) for n, p, f in block_terms(shape, tokens)]


def _reduced_blocks(shape: ModelShape, tokens: int, reduction: TokenReduction) -> list[Term]:
    """The reducer's terms, then the blocks': the first `before` at all tokens, the others at the kept ones."""
    reduction.check(shape, tokens)
    params, learned, selection = reducer_work(shape, tokens, reduction)
    full, few = _blocks(shape, tokens), _blocks(shape, reduction.tokens_after)
    mixed = [
        Term(
            a.stage,
            a.name,
            a.params,
            (reduction.before * a.flops + (shape.depth - reduction.before) * b.flops) // shape.depth,
        )
        for a, b in zip(full, few, strict=True)
    ]
    return [
        Term("reducer", reduction.reducer, params, learned),
        Term("selection", reduction.reducer, 0, selection),
        *mixed,
    ]


def _attention_block(shape: ModelShape, tokens: int) -> list[tuple[str, int, int]]:
    dim, hidden, rows = shape.embed_dim, shape.mlp_hidden, tokens + 1
    return [
        ("norms", 4 * dim, 0),
        ("qkv", 3 * dim * dim + 3 * dim, 2 * rows * dim * 3 * dim),
        ("attention_scores", 0, 2 * rows * rows * dim),
        ("attention_values", 0, 2 * rows * rows * dim),
        ("proj", dim * dim + dim, 2 * rows * dim * dim),
        ("fc1", dim * hidden + hidden, 2 * rows * dim * hidden),
        ("fc2", dim * hidden + dim, 2 * rows * dim * hidden),
    ]


def _mamba_block(shape: ModelShape, tokens: int) -> list[tuple[str, int, int]]:
    dim, hidden, inner = shape.embed_dim, shape.mlp_hidden, shape.d_inner
    heads, state, rows, mixer_rows = shape.num_heads, shape.d_state, tokens + 1, tokens + 2
    projected, convolved = 2 * inner + 2 * state + heads, inner + 2 * state
    return [
        ("norms", 2 * dim + inner, 0),
        ("in_proj", dim * projected, 2 * mixer_rows * dim * projected),
        ("conv1d", convolved * (shape.d_conv + 1), 2 * mixer_rows * convolved * shape.d_conv),
        ("ssd", 3 * heads, ssd_flops(mixer_rows, heads, shape.headdim, state)),
        ("out_proj", inner * dim, 2 * mixer_rows * inner * dim),
        ("mlp_w1", dim * hidden + hidden, 2 * rows * dim * hidden),
        ("mlp_w2", dim * hidden + hidden, 2 * rows * dim * hidden),
        ("mlp_w3", dim * hidden + dim, 2 * rows * dim * hidden),
    ]
