"""What one Adventurer block keeps for the backward pass.

Letters as in `patchscale.cost.terms`; r bytes of the residual stream, c bytes of what matrix products read and write,
4 bytes where statistics are float32 whatever the precision.

`torch`, the chunked SSD in torch with its norms and convolution written out, keeps

    of L rows   the residual stream (2 D at r), both norms' scaled rows and deviations (2 D + 2 at 4), the second norm's
                output (D), both products of the SwiGLU, its activation and what the third product reads (4 F), at c
    of M rows   what in_proj reads (D), the convolution's input, output and activation (3 (I + 2 S)), the scan's output
                (I), the gated norm's output (I), at c; dt before and after its softplus (2 H at 4); the gated product
                and its scaled rows (2 I + 1 at 4)
                float32: in_proj's output, of which the gate is a part (2 I + 2 S + H at 4), the gate's activation (I)
                halves: the gate, its activation and the scan's output once more, as float32 (3 I at 4)
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


def mamba_block_bytes(
    shape: ModelShape, tokens: int, residual: int, compute: int, *, ssd: str, batch_size: int, cpu: bool
) -> int:
    """Bytes of one image that one Adventurer block keeps.

    Args:
        shape: the encoder.
        tokens: N.
        residual: r.
        compute: c.
        ssd: `torch` or `fused`.
        batch_size: images of the pass; slabs of chunks depend on it.
        cpu: the chunks are a CPU's.
    """
    dim, hidden, inner, state = shape.embed_dim, shape.mlp_hidden, shape.d_inner, shape.d_state
    rows, mixer_rows, heads = tokens + 1, tokens + 2, shape.num_heads
    projected, convolved = 2 * inner + 2 * state + heads, inner + 2 * state
    outer = rows * (2 * dim * residual + (dim + 4 * hidden) * compute + 2 * FLOAT)
    if ssd == "fused":
        return outer + mixer_rows * ((dim + projected + inner) * compute + FLOAT)
    outer += rows * 2 * dim * FLOAT
    gate = (projected + inner) * FLOAT if compute == FLOAT else 3 * inner * FLOAT
    a_row = (dim + 3 * convolved + 2 * inner) * compute + (2 * heads + 2 * inner + 1) * FLOAT + gate
    states = (_slabs(mixer_rows, batch_size * inner * compute, cpu) - 1) * inner * state * FLOAT
    return outer + mixer_rows * a_row + states


def _slabs(rows: int, row_bytes: int, cpu: bool) -> int:
    """Slabs into which the chunked SSD cuts a sequence: near-equal chunks, as many together as the budget holds."""
    largest = (CPU_SHORT if rows <= CPU_SHORT else CPU_CHUNK) if cpu else GPU_CHUNK
    chunk = -(-rows // -(-rows // largest))
    group = max(1, (CPU_SLAB_BYTES if cpu else GPU_SLAB_BYTES) // (row_bytes * chunk))
    whole, rest = divmod(rows, chunk)
    return -(-whole // group) + (1 if rest else 0)
