"""Training memory from shapes: what the backward pass keeps, stage by stage, and what weights and optimizer take.

Counted are the tensors that autograd keeps, each once, however many layers read it. Shape letters as in
`patchscale.cost.terms`; r bytes of the residual stream, c bytes of what matrix products read and write.

A DeiT block with fused attention keeps, a row: the residual stream before each norm (2 D at r), the two norms' outputs
(2 D), queries, keys and values (3 D), attention's output (D), fc1's output and its activation (2 F), all at c; the
log-sum-exp of attention (H at 4 bytes) and mean and deviation of two norms (4 at 4 bytes). Unfused attention keeps one
L x L map a head instead of the log-sum-exp.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from patchscale.cost.estimate import Cost
from patchscale.cost.mamba_memory import mamba_block_bytes
from patchscale.cost.reduction_memory import choosing_bytes, reducer_bytes
from patchscale.cost.shapes import ModelShape
from patchscale.errors import InputError

PRECISIONS = {"float32": (4, 4), "bfloat16": (4, 2), "float16": (4, 2)}
"""Name -> (r, c). Half precisions are autocast: float32 weights and residual stream, halves in matrix products."""

ATTENTION = ("fused", "unfused")
SSD = ("lean", "torch", "fused")
FLOAT = 4
PROGRAM, TILES, LEAN_COPIES = 14 * 10**6, 20 * 10**6, 4
"""Measured on a CPU: pages that the first training step touches, whatever the model; arrays of the lean mixer's tiles.
A lean block holds its folded weights, the sums of their gradients, and the two products that unfold these."""
LARGE = 32 * 2**20
"""glibc maps larger blocks from the system, and gives them back; smaller ones lie in the heap."""
ADAMW_STATES = 2
MIB = 2**20


@dataclass(frozen=True)
class Activations:
    """Bytes of one image that the backward pass needs.

    Attributes:
        patch_embed: the image and what the patch embedding reads.
        blocks: all blocks (with recompute: one residual stream a block, and one block in full).
        head: final norm and head.
        block: one block in full.
        transient: gradients and temporaries alive at the peak, where the backward pass starts.
        holes: freed temporaries of the forward pass that a CPU's heap cannot use again (0 elsewhere).
        reducer: what a reducer keeps.
        choosing: all that is alive while a reducer chooses.
    """

    patch_embed: int
    blocks: int
    head: int
    block: int
    transient: int
    holes: int
    reducer: int = 0
    choosing: int = 0

    @property
    def kept(self) -> int:
        """What autograd keeps, summed over stages: "memory per image" of table 6."""
        return self.patch_embed + self.reducer + self.blocks + self.head


@dataclass(frozen=True)
class Memory:
    """Peak bytes of one training process.

    Attributes:
        batch_size: images of one forward pass on one device.
        precision: key of `PRECISIONS`.
        recompute: whether blocks are computed again in the backward pass.
        weights: float32 weights, and their half-precision copies under autocast.
        gradients: float32 gradients, twice if devices accumulate (what earlier passes left, and the buckets to sum).
        optimizer: AdamW's two moments, and the average of weights if there is one.
        activations: bytes an image.
        peak: with them, the larger of the backward pass's start (all activations, or if more what is alive while a
            reducer chooses; and the gradients, if they outlive a pass) and end (all gradients, one block left); on a
            CPU their sum, because the C library's heap does not give freed activations to gradients, and the pages of
            the program and of the lean tiles.
    """

    batch_size: int
    precision: str
    recompute: bool
    weights: int
    gradients: int
    optimizer: int
    activations: Activations
    peak: int

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return dataclasses.asdict(self)


def activation_memory(
    cost: Cost,
    *,
    precision: str = "bfloat16",
    recompute: bool = False,
    attention: str = "fused",
    ssd: str | None = None,
    batch_size: int = 64,
    cpu: bool = False,
) -> Activations:
    """What one image leaves for the backward pass.

    Args:
        cost: of `estimate`.
        precision: `float32`, or `bfloat16` / `float16` (autocast).
        recompute: blocks keep only their input.
        attention: `fused` (flash attention, the default everywhere) or `unfused`.
        ssd: how Adventurer blocks run: `lean` (the default on a CPU), `torch` (the default elsewhere) or `fused`
            (mamba-ssm's combined kernel); see `patchscale.cost.mamba_memory`.
        batch_size: images of one pass; only the states kept by the chunked SSD depend on it.
        cpu: the pass runs on a CPU.

    Raises:
        InputError: unknown precision, attention or ssd.
    """
    ssd = ssd or ("lean" if cpu else "torch")
    known = {"precision": (precision, PRECISIONS), "attention": (attention, ATTENTION), "ssd": (ssd, SSD)}
    for what, (value, allowed) in known.items():
        if value not in allowed:
            raise InputError(f"unknown {what} {value!r}; use one of {', '.join(allowed)}")
    shape, (residual, compute) = cost.shape, PRECISIONS[precision]
    rows = cost.stretches[-1][1] + 1
    pixels = cost.input_size[0] * cost.input_size[1] * cost.in_chans

    def block_bytes(tokens: int) -> int:
        if shape.family == "deit":
            return _deit_block_bytes(shape, tokens, residual, compute, fused=attention == "fused")
        return mamba_block_bytes(shape, tokens, residual, compute, ssd=ssd, batch_size=batch_size, cpu=cpu)

    heap = LARGE / batch_size if cpu else 0.0
    block = block_bytes(cost.stretches[0][1])
    kept = [
        count * ((tokens + 1) * shape.embed_dim * residual if recompute else block_bytes(tokens))
        for count, tokens in cost.stretches
    ]
    holes = sum(_holes(shape, count, tokens + 1, compute, heap) for count, tokens in cost.stretches)
    embedded, reduced, choosing = pixels * (FLOAT + compute), 0, 0
    if cost.reduction is not None:
        reduced = reducer_bytes(shape, cost.tokens, cost.reduction, residual, compute, batch_size)
        early = sum(kept[:-1]) + choosing_bytes(shape, cost.tokens, cost.reduction, residual, compute)
        choosing = embedded + reduced + early
    return Activations(
        patch_embed=embedded,
        blocks=sum(kept) + (block if recompute else 0),
        head=_head_bytes(cost, rows, residual, compute),
        block=block,
        transient=_transient(shape, rows, residual, compute, lean=ssd == "lean", heap=heap),
        holes=holes + (block if recompute else 0) if cpu else 0,
        reducer=reduced,
        choosing=choosing,
    )


def training_memory(
    cost: Cost,
    *,
    batch_size: int,
    precision: str = "bfloat16",
    recompute: bool = False,
    attention: str = "fused",
    ssd: str | None = None,
    cpu: bool = False,
    average: bool = False,
    accumulation: int = 1,
    gpus: int = 1,
) -> Memory:
    """Peak memory of training with AdamW on one device; data-parallel devices (DDP) each need it.

    Args:
        cost: of `estimate`.
        batch_size: images of one forward pass on this device (accumulation splits a larger batch).
        precision: see `activation_memory`.
        recompute: see `activation_memory`.
        attention: see `activation_memory`.
        ssd: see `activation_memory`.
        cpu: see `activation_memory`.
        average: whether an average of the weights is kept.
        accumulation: passes of one update: from the second on, gradients are alive before the backward pass.
        gpus: devices that train together: DDP's buckets of gradients are alive all the time, and apart from what
            passes before the last one leave.

    Raises:
        InputError: unknown precision, attention or ssd, or a batch, accumulation or number of devices below 1.
    """
    for what, count in {"batch_size": batch_size, "accumulation": accumulation, "gpus": gpus}.items():
        if count < 1:
            raise InputError(f"{what} {count} is not positive; use 1 or more")
    kept = activation_memory(
        cost,
        precision=precision,
        recompute=recompute,
        attention=attention,
        ssd=ssd,
        batch_size=batch_size,
        cpu=cpu,
    )
    compute = PRECISIONS[precision][1]
    lasting = int(accumulation > 1) + int(gpus > 1)
    gradients = FLOAT * cost.params * max(1, lasting)
    weights = FLOAT * cost.params + (compute * cost.params if compute < FLOAT else 0)
    optimizer = FLOAT * cost.params * (ADAMW_STATES + int(average))
    start = batch_size * max(kept.kept + kept.transient + kept.holes, kept.choosing)
    end = gradients + batch_size * (kept.patch_embed + kept.block + kept.transient)
    if cpu:
        backward = PROGRAM + gradients + start
    else:
        backward = max(start + (gradients if lasting else 0), end)
    if cpu and cost.shape.family == "adventurer" and ssd in (None, "lean"):
        backward += (
            TILES + LEAN_COPIES * FLOAT * sum(t.params for t in cost.terms if t.stage == "blocks") // cost.shape.depth
        )
    return Memory(
        batch_size=batch_size,
        precision=precision,
        recompute=recompute,
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        activations=kept,
        peak=weights + optimizer + backward,
    )


def largest_batch(cost: Cost, memory_bytes: float, **options: Any) -> int:
    """The largest batch of one forward pass that fits in `memory_bytes`; 0 if not even one image fits."""
    one = training_memory(cost, batch_size=1, **options).peak
    if one > memory_bytes:
        return 0
    low, high = 1, 2
    while training_memory(cost, batch_size=high, **options).peak <= memory_bytes:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        fits = training_memory(cost, batch_size=middle, **options).peak <= memory_bytes
        low, high = (middle, high) if fits else (low, middle)
    return low


def _deit_block_bytes(shape: ModelShape, tokens: int, residual: int, compute: int, *, fused: bool) -> int:
    dim, hidden, heads, rows = shape.embed_dim, shape.mlp_hidden, shape.num_heads, tokens + 1
    a_row = 2 * dim * residual + (2 * dim + 3 * dim + dim + 2 * hidden) * compute + 4 * FLOAT
    if fused:
        return rows * (a_row + heads * FLOAT)
    return rows * (a_row + rows * heads * compute)


def _head_bytes(cost: Cost, rows: int, residual: int, compute: int) -> int:
    """The last block's output, the final norm's where it is kept, head input and logits.

    A DeiT normalises every row and keeps that whole unless a cast copies the class row; an Adventurer normalises the
    class row alone.
    """
    dim = cost.shape.embed_dim
    head_rows = cost.tokens if cost.decoder else 1
    whole = compute == FLOAT and cost.shape.family == "deit"
    head_input = rows * dim * FLOAT if whole else head_rows * dim * (compute + FLOAT)
    return rows * dim * residual + head_input + 3 * head_rows * cost.num_classes * FLOAT


def _transient(shape: ModelShape, rows: int, residual: int, compute: int, *, lean: bool, heap: float) -> int:
    """Gradients alive where the last block's backward pass starts: of the residual stream, and of the MLP's hidden row.

    In a CPU's heap (blocks of an image below `heap` bytes) the hidden row's gradient is there twice, before and after
    the activation, and so is the stream's: freed blocks of the same size cannot be used again (see `_holes`). Lean
    blocks hold the stream's gradient three times: coming in, going out, and copied between the two halves.
    """
    stream, hidden = rows * shape.embed_dim * residual, rows * shape.mlp_hidden * compute
    if lean and shape.family == "adventurer":
        return 3 * stream
    return sum(2 * size if size < heap else size for size in (stream, hidden))


def _holes(shape: ModelShape, blocks: int, rows: int, compute: int, heap: float) -> int:
    """What a DeiT's forward pass frees without use for it later, all of so many blocks together.

    glibc's aligned allocation needs a little more than a freed block of the same size offers, so every freed temporary
    between kept tensors stays a hole: the outputs of proj and fc2, and under autocast the norms' float32 outputs.
    Blocks above 32 MiB are mapped and leave none; lean Adventurer blocks have their temporaries in tiles. With
    recompute, the freed tensors of the block that ran last stay beside those of its second run.
    """
    if shape.family != "deit":
        return 0
    sizes = [compute, compute] + ([FLOAT, FLOAT] if compute < FLOAT else [])
    small = [size for size in sizes if rows * shape.embed_dim * size < heap]
    return blocks * rows * shape.embed_dim * sum(small)
