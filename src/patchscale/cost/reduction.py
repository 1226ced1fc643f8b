"""What keeping K of N tokens costs: parameters and FLOPs of every reducer, in the conventions of `terms`.

Shape letters: N tokens, K kept, D width, n tokens of a QR window. Counted are matrix products; not counted are norms,
softmax, sorting, gathering and scattered sums.
"""

from __future__ import annotations

from dataclasses import dataclass

from patchscale.cost.shapes import LCT_SHAPES, ModelShape
from patchscale.errors import InputError

RELEASED_SLOTS = 64
KMEANS_ITERATIONS = 5
VISIONZIP_CONTEXTUAL = 10 / 64


@dataclass(frozen=True)
class TokenReduction:
    """Fewer tokens from one block on.

    Attributes:
        reducer: its name, as in `patchscale.tokens.reducers.REDUCERS`.
        kept_tokens: K. For QR to a tolerance the upper end, so that the count is an upper bound.
        before: index of the first block that sees K.
        class_token: "kept" beside the K rows, or "routed" among the N (then K rows are all there are).
        window: tokens of a QR window; None as in `PivotedQR`.
        own_experts: filtering as described with an expert a slot.
    """

    reducer: str
    kept_tokens: int
    before: int = 0
    class_token: str = "kept"
    window: int | None = None
    own_experts: bool = False

    @property
    def tokens_after(self) -> int:
        """Tokens of the later blocks, the class token (or the slot in its place) not counted."""
        return self.kept_tokens - (self.class_token == "routed")

    def check(self, shape: ModelShape, tokens: int) -> None:
        """Raises InputError if the reduction does not fit the model and its tokens."""
        if self.reducer not in _WORK:
            raise InputError(f"unknown reducer {self.reducer!r}; use one of {', '.join(_WORK)}")
        if not 1 <= self.kept_tokens <= tokens:
            raise InputError(f"kept_tokens {self.kept_tokens} is not between 1 and the {tokens} tokens of the image")
        if not 0 <= self.before < shape.depth:
            raise InputError(f"before {self.before} is no block of this model; use 0 to {shape.depth - 1}")


def released_reduction(shape: ModelShape) -> TokenReduction | None:
    """Filtering as released with its default slots for `lct_vit_*`, else None."""
    if shape.name not in LCT_SHAPES:
        return None
    return TokenReduction("filtering_released", RELEASED_SLOTS, class_token="routed")


def reducer_work(shape: ModelShape, tokens: int, reduction: TokenReduction) -> tuple[int, int, int]:
    """(parameters, FLOPs with gradient, FLOPs of a selection without) of one reducer and image."""
    rows = tokens + (reduction.class_token == "routed")
    return _WORK[reduction.reducer](shape, rows, reduction)


def _nothing(shape: ModelShape, rows: int, reduction: TokenReduction) -> tuple[int, int, int]:
    return 0, 0, 0


def _attention(shape: ModelShape, rows: int, reduction: TokenReduction) -> tuple[int, int, int]:
    """Class attention; a ViT computes queries, keys and values of the block for it."""
    dim = shape.embed_dim
    projections = 6 * (rows + 1) * dim * dim if shape.family == "deit" else 0
    return 0, 0, projections + 2 * rows * dim


def _tome(shape: ModelShape, rows: int, reduction: TokenReduction) -> tuple[int, int, int]:
    flops = 0
    while rows > reduction.kept_tokens:
        flops += 2 * (rows - rows // 2) * (rows // 2) * shape.embed_dim
        rows -= min(rows - reduction.kept_tokens, rows // 2)
    return 0, 0, flops


def _kmeans(shape: ModelShape, rows: int, reduction: TokenReduction) -> tuple[int, int, int]:
    return 0, 0, (KMEANS_ITERATIONS + 1) * 2 * rows * reduction.kept_tokens * shape.embed_dim


def _visionzip(shape: ModelShape, rows: int, reduction: TokenReduction) -> tuple[int, int, int]:
    merged = visionzip_merged(reduction.kept_tokens)
    return 0, 0, _attention(shape, rows, reduction)[2] + 2 * rows * merged * shape.embed_dim


def visionzip_merged(kept: int) -> int:
    """Of VisionZip's K rows, those that are means of many tokens."""
    return min(kept, max(1, round(VISIONZIP_CONTEXTUAL * kept)))


def _qr(shape: ModelShape, rows: int, reduction: TokenReduction) -> tuple[int, int, int]:
    """Products of all rows of a window (2 n^2 D), a step's new column (2 n for each step before), the assignment."""
    dim, kept = shape.embed_dim, reduction.kept_tokens
    window = qr_window(shape, rows, reduction)
    windows, steps = -(-rows // window), min(kept, window)
    greedy = windows * (2 * window * window * dim + window * steps * (steps - 1))
    return 0, 0, greedy + 2 * rows * kept * dim


def qr_window(shape: ModelShape, rows: int, reduction: TokenReduction) -> int:
    """Rows of a window of adaptive QR; see `PivotedQR`."""
    if reduction.window:
        return min(reduction.window, rows)
    return -(-rows // -(-rows // min(shape.embed_dim, rows)))


def _filtering(shape: ModelShape, rows: int, reduction: TokenReduction) -> tuple[int, int, int]:
    dim, kept = shape.embed_dim, reduction.kept_tokens
    experts = kept if reduction.own_experts else 1
    params = experts * (2 * dim * dim + 4 * dim) + 2 * (dim * dim + dim) + 4 * dim
    return params, 4 * rows * dim * dim + 2 * rows * kept * dim + 4 * kept * dim * dim, 0


def _filtering_released(shape: ModelShape, rows: int, reduction: TokenReduction) -> tuple[int, int, int]:
    dim, kept = shape.embed_dim, reduction.kept_tokens
    return kept * (2 * dim * dim + 5 * dim + 1) + 2 * dim, 4 * rows * dim * dim + 2 * rows * kept * dim, 0


def _soft_moe(shape: ModelShape, rows: int, reduction: TokenReduction) -> tuple[int, int, int]:
    return reduction.kept_tokens * shape.embed_dim + 1, 4 * rows * reduction.kept_tokens * shape.embed_dim, 0


_WORK = {
    "random": _nothing,
    "pool": _nothing,
    "attention": _attention,
    "tome": _tome,
    "kmeans": _kmeans,
    "visionzip": _visionzip,
    "qr": _qr,
    "filtering": _filtering,
    "filtering_released": _filtering_released,
    "soft_moe": _soft_moe,
}
