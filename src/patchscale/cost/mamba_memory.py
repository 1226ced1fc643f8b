"""What one Adventurer block keeps for the backward pass.

Letters as in `patchscale.cost.terms`; r bytes of the residual stream, c bytes of what matrix products read and write.

`lean`, what the package runs on a CPU: each half of a block is one function that recomputes everything from its input,
so it keeps, of L rows, the residual stream before each half (2 D at r), and one state (I S at 4) for each tile of a
sequence after the first.

`torch`, the same formula written out, as it runs on a GPU with the chunked SSD or our Triton kernel, keeps

    of L rows   the residual stream (2 D at r), both norms' scaled rows and deviations (2 D + 2 at 4), the second norm's
                output (D), both products of the SwiGLU, its activation and what the third product reads (4 F), at c
    of M rows   what in_proj reads (D), the convolution's input, output and activation (3 (I + 2 S)), the gated norm's
                output (I), at c; dt before and after its softplus (2 H at 4); the gated product and its scaled rows
                (2 I + 1 at 4)
                float32: in_proj's output, of which the gate is a part (2 I + 2 S + H at 4), the gate's activation and
                the scan's output (2 I at 4)
                halves: the gate, its activation and the scan's output, as float32 (3 I at 4)
    an image    one state (I S at 4) for each slab of chunks after the first

`fused`, one kernel for convolution, scan, gate and gated norm that computes again what it can (mamba-ssm's combined
kernel) and fused norms, keeps of L rows the residual stream, the second norm's output and the SwiGLU as above, and of
M rows what in_proj reads (D), in_proj's output (2 I + 2 S + H) and the scan's output (I), at c.
"""

from __future__ import annotations

from patchscale.cost.shapes import ModelShape

FLOAT = 4
CPU_SLAB_BYTES, GPU_SLAB_BYTES = 1 << 19, 1 << 28
CPU_CHUNK, CPU_SHORT, GPU_CHUNK = 64, 96, 128
TILE_FLOATS, TILE_ROWS = 400_000, (512, 1024)


def mamba_block_bytes(
    shape: ModelShape, tokens: int, residual: int, compute: int, *, ssd: str, batch_size: int, cpu: bool
) -> int:
    """Bytes of one image that one Adventurer block keeps.

    Args:
        shape: the encoder.
        tokens: N.
        residual: r.
        compute: c.
        ssd: `lean`, `torch` or `fused`.
        batch_size: images of the pass; slabs of chunks depend on it.
        cpu: the chunks are a CPU's.
    """
    dim, hidden, inner, state = shape.embed_dim, shape.mlp_hidden, shape.d_inner, shape.d_state
    rows, mixer_rows, heads = tokens + 1, tokens + 2, shape.num_heads
    projected, convolved = 2 * inner + 2 * state + heads, inner + 2 * state
    if ssd == "lean":
        return rows * 2 * dim * residual + (_tiles(mixer_rows, projected) - 1) * inner * state * FLOAT
    outer = rows * (2 * dim * residual + (dim + 4 * hidden) * compute + 2 * FLOAT)
    if ssd == "fused":
        return outer + mixer_rows * ((dim + projected + inner) * compute + FLOAT)
    outer += rows * 2 * dim * FLOAT
    gate = (projected + 2 * inner) * FLOAT if compute == FLOAT else 3 * inner * FLOAT
    a_row = (dim + 3 * convolved + inner) * compute + (2 * heads + 2 * inner + 1) * FLOAT + gate
    states = (_slabs(mixer_rows, batch_size * inner * compute, cpu) - 1) * inner * state * FLOAT
    return outer + mixer_rows * a_row + states


def _chunk(rows: int, cpu: bool) -> int:
    """Length of near-equal chunks."""
    largest = (CPU_SHORT if rows <= CPU_SHORT else CPU_CHUNK) if cpu else GPU_CHUNK
    return -(-rows // -(-rows // largest))


def _slabs(rows: int, row_bytes: int, cpu: bool) -> int:
    """Slabs into which the chunked SSD cuts a sequence: as many chunks together as the budget holds."""
    chunk = _chunk(rows, cpu)
    return _cuts(rows, chunk, max(1, (CPU_SLAB_BYTES if cpu else GPU_SLAB_BYTES) // (row_bytes * chunk)))


def _tiles(rows: int, channels: int) -> int:
    """Tiles into which the lean mixer cuts a sequence on a CPU; short sequences are kept whole."""
    chunk, budget = _chunk(rows, cpu=True), min(max(TILE_FLOATS // channels, TILE_ROWS[0]), TILE_ROWS[1])
    return _cuts(rows, chunk, max(1, budget // chunk) if 2 * rows > budget else -(-rows // chunk))


def _cuts(rows: int, chunk: int, group: int) -> int:
    whole, rest = divmod(rows, chunk)
    return -(-whole // group) + (1 if rest else 0)
