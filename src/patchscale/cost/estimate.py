"""`estimate`: what one model costs at one input and patch size, from shapes alone."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from patchscale.cost.reduction import TokenReduction, released_reduction
from patchscale.cost.shapes import ModelShape, shape_of
from patchscale.cost.terms import Term, grid_of, model_terms
from patchscale.errors import InputError

TRAIN_OVER_FORWARD = 3
"""Training FLOPs over forward FLOPs: the backward pass does twice the forward's products."""


@dataclass(frozen=True)
class Cost:
    """Exact counts of one model; all FLOPs are of one image.

    Attributes:
        shape: the encoder's shape.
        input_size: (height, width) in pixels.
        patch_size: p.
        in_chans: image channels.
        num_classes: rows of the head.
        decoder: None (head on the class token) or `linear` (head on every token).
        grid: (rows, columns) of patches.
        tokens: rows times columns, or more where the sequence was extended; the class token is not counted.
        params: all parameters, the position table included.
        params_without_positions: the same without the position table ((tokens + 1) D).
        flops_forward: forward FLOPs, a multiply-add as 2, SSD terms in (`patchscale.cost.terms` states the convention).
        flops_train: three times the forward FLOPs (recomputation, if any, is not model work); what a reducer does
            without gradient counts once.
        terms: the counts part by part.
        reduction: fewer tokens from some block on, or None.
    """

    shape: ModelShape
    input_size: tuple[int, int]
    patch_size: int
    in_chans: int
    num_classes: int
    decoder: str | None
    grid: tuple[int, int]
    tokens: int
    params: int
    params_without_positions: int
    flops_forward: int
    flops_train: int
    terms: tuple[Term, ...]
    reduction: TokenReduction | None = None

    @property
    def kept_tokens(self) -> int:
        """Rows left after the reducer; all tokens without one."""
        return self.tokens if self.reduction is None else self.reduction.kept_tokens

    @property
    def stretches(self) -> tuple[tuple[int, int], ...]:
        """(blocks, tokens) of the blocks before a reducer, if there are any, and of those after it."""
        if self.reduction is None:
            return ((self.shape.depth, self.tokens),)
        before, after = self.reduction.before, self.reduction.tokens_after
        return (*([(before, self.tokens)] if before else []), (self.shape.depth - before, after))

    @property
    def model(self) -> str:
        """Registered name of the model."""
        return self.shape.name

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: every count, and the terms as a list."""
        counts = {
            f.name: getattr(self, f.name)
            for f in dataclasses.fields(self)
            if f.name not in ("shape", "terms", "reduction")
        }
        counts |= {"kept_tokens": self.kept_tokens, "input_size": list(self.input_size), "grid": list(self.grid)}
        return (
            {"model": self.model, "family": self.shape.family}
            | counts
            | {"terms": [dataclasses.asdict(term) for term in self.terms]}
        )


def estimate(
    model: str | ModelShape,
    *,
    input_size: int | tuple[int, int],
    patch_size: int | None = None,
    num_classes: int = 1000,
    in_chans: int = 3,
    decoder: str | None = None,
    reduction: TokenReduction | None = None,
    sequence_extension: int = 1,
) -> Cost:
    """Counts parameters, tokens and FLOPs of a model; loads no torch.

    Args:
        model: a registered name such as `deit_base_patch16`, or a shape of your own.
        input_size: pixels, one side or (height, width).
        patch_size: p; the one in the model's name if not given.
        num_classes: rows of the head; 0 for none.
        in_chans: image channels.
        decoder: None for a head on the class token, `linear` for one on every token.
        reduction: fewer tokens from some block on; the released one for `lct_vit_*`, else none.
        sequence_extension: the patches' tokens are interpolated to so many times the rows and columns.

    Raises:
        InputError: unknown model, decoder or reducer, a patch size that does not divide the input, a negative count.
    """
    shape = shape_of(model) if isinstance(model, str) else model
    patch_size = shape.patch_size if patch_size is None else patch_size
    if num_classes < 0 or in_chans < 1:
        raise InputError(
            f"num_classes {num_classes} and in_chans {in_chans}: use 0 or more classes, 1 or more channels"
        )
    grid = grid_of(input_size, patch_size)
    tokens = grid[0] * grid[1] * sequence_extension**2
    reduction = reduction or released_reduction(shape)
    terms = model_terms(
        shape,
        tokens=tokens,
        patch_size=patch_size,
        in_chans=in_chans,
        num_classes=num_classes,
        decoder=decoder,
        reduction=reduction,
        patches=grid[0] * grid[1],
    )
    params, flops = sum(t.params for t in terms), sum(t.flops for t in terms)
    selection = sum(t.flops for t in terms if t.stage == "selection")
    positions = sum(t.params for t in terms if t.name == "positions")
    return Cost(
        shape=shape,
        input_size=(grid[0] * patch_size, grid[1] * patch_size),
        patch_size=patch_size,
        in_chans=in_chans,
        num_classes=num_classes,
        decoder=decoder,
        grid=grid,
        tokens=tokens,
        params=params,
        params_without_positions=params - positions,
        flops_forward=flops,
        flops_train=TRAIN_OVER_FORWARD * (flops - selection) + selection,
        terms=tuple(terms),
        reduction=reduction,
    )
