"""Training schedules: the published stages of one run, shortened where a budget asks for it.

Sources: tables 8 to 10 of the patchification paper and the text around them. From scratch, an Adventurer trains at
up to 128 pixels for 300 epochs (Large and Huge 200) and is fine-tuned there for 20 (Large and Huge 50) when it is above
64 pixels; above 128 pixels those weights train on at the full size for 100 + 20 epochs (Large and Huge 50 + 50). DeiT
trains at its own size for 300 epochs (Large and Huge 200). `coarser` starts from weights of the same model at patch 16
and runs the last two stages at the finer patch: no published run did that. Public weights exist for `PRETRAINED`.
"""

from __future__ import annotations

from dataclasses import dataclass

from patchscale.cost.shapes import ModelShape

PRETRAINING_SIDE = 128
LARGE_PARAMETERS_WIDTH = 1024
COARSE_PATCH = 16
PRETRAINED = (
    *(f"deit_{size}_patch16" for size in ("tiny", "small", "base", "large")),
    *(f"adventurer_{size}_patch16" for size in ("tiny", "small", "base", "large")),
)
"""Models whose patch-16 weights on ImageNet-1k are public (DeiT and DeiT III; the Adventurer's release)."""


@dataclass(frozen=True)
class Stage:
    """Epochs at one input size."""

    input_size: int
    epochs: float


def is_large(shape: ModelShape) -> bool:
    """Large and Huge have their own column in the recipes."""
    return shape.embed_dim >= LARGE_PARAMETERS_WIDTH


def published_batch(shape: ModelShape) -> int:
    """Images of one update in tables 8 and 10."""
    return 4096 if is_large(shape) else 1024


def stages(shape: ModelShape, input_size: int, patch_size: int, start: str) -> list[Stage]:
    """The full published schedule of one model.

    Args:
        shape: the encoder.
        input_size: side in pixels of the last stage.
        patch_size: p; it must divide the earlier stages' input too, else they run at the full size.
        start: `scratch` or `coarser`.
    """
    first, later = (200, (50, 50)) if is_large(shape) else (300, (100, 20))
    if start == "coarser":
        return [Stage(input_size, sum(later))]
    if shape.family == "deit" or input_size <= PRETRAINING_SIDE // 2:
        return [Stage(input_size, first)]
    if input_size <= PRETRAINING_SIDE:
        return [Stage(input_size, first + later[1])]
    early = PRETRAINING_SIDE if PRETRAINING_SIDE % patch_size == 0 else input_size
    return [Stage(early, first), Stage(input_size, sum(later))]
