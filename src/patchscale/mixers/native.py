"""The SSD by our C++ kernel (backend `native`): a CPU with a compiler; float32, and float64 for checks.

B batch, L sequence, H heads, P head width, N state width, Q chunk. bfloat16 is computed in float32.
"""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from patchscale.mixers.chunked import equal_chunk
from patchscale.mixers.native_build import library

CHUNK = 32  # measured: 16 to 64 within 8 %, longer ones slower
SEGMENT_BYTES = 1 << 22  # states of one image that the backward pass recomputes and holds at a time
_POINTERS = ("x", "dt", "a", "b", "c", "d", "first", "dy", "dlast",
             "y", "last", "kept", "dx", "ddt", "da", "db", "dc", "dd", "dfirst")  # fmt: skip
_NUMBERS = ("batch", "length", "heads", "width", "state", "chunk", "segment", "groups", "threads")
_STRIDED = ("x", "dt", "b", "c", "y", "dx")


class Call(ctypes.Structure):
    """The argument of the library's functions: sizes, pointers, and strides (per image, per row) in elements."""

    _fields_ = [
        *((name, ctypes.c_int64) for name in _NUMBERS),
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((f"{name}_{kind}", ctypes.c_int64) for name in _STRIDED for kind in ("image", "row")),
    ]


@lru_cache
def _function(direction: str, dtype: torch.dtype):
    kind = {torch.float32: "float", torch.float64: "double"}[dtype]
    function = getattr(library(), f"ssd_{direction}_{kind}")
    function.argtypes, function.restype = [ctypes.POINTER(Call)], None
    return function


def native_chunk(length: int) -> int:
    """The chunk used when none is asked for: near-equal chunks of about `CHUNK`."""
    return equal_chunk(length, round(length / CHUNK))


class Plan:
    """How one call is cut: heads into groups so that every thread has work, chunks into segments."""

    def __init__(self, x: Tensor, state: int, chunk: int):
        self.batch, self.length, self.heads, self.width = x.shape
        self.state, self.threads = state, torch.get_num_threads()
        self.chunk = max(1, min(chunk, self.length))
        self.groups = min(self.heads, max(1, -(-self.threads // max(1, self.batch))))
        held = self.heads * self.width * state * x.element_size()
        self.chunks = -(-self.length // self.chunk)
        self.segment = max(1, min(self.chunks, SEGMENT_BYTES // held))

    def kept(self, x: Tensor) -> Tensor | None:
        """Room for the state before each segment, [B, segments, H, P, N]; None where one segment is all."""
        segments = -(-self.chunks // self.segment)
        return x.new_empty(self.batch, segments, self.heads, self.width, self.state) if segments > 1 else None

    def run(self, direction: str, strided: dict[str, Tensor], plain: dict[str, Tensor | None]) -> None:
        """Calls the library. `strided` tensors have adjacent channels, `plain` ones are contiguous."""
        call = Call(**{name: getattr(self, name) for name in _NUMBERS})
        for name, tensor in (strided | plain).items():
            setattr(call, name, None if tensor is None else tensor.data_ptr())
        for name, tensor in strided.items():
            if name != "dy":
                setattr(call, f"{name}_image", tensor.stride(0))
                setattr(call, f"{name}_row", tensor.stride(1))
        _function(direction, strided["x"].dtype)(ctypes.byref(call))


def _adjacent(t: Tensor) -> Tensor:
    """t, or a copy, with the dimensions after batch and sequence contiguous."""
    inner = 1
    for size, stride in zip(reversed(t.shape[2:]), reversed(t.stride()[2:]), strict=True):
        if size > 1 and stride != inner:
            return t.contiguous()
        inner *= size
    return t


def _solid(t: Tensor | None, f: torch.dtype) -> Tensor | None:
    return None if t is None else t.to(f).contiguous()


def _wide(f: torch.dtype, *tensors: Tensor | None) -> tuple[Any, ...]:
    return tuple(t if t is None else t.to(f) for t in tensors)


def native_forward(x: Tensor, dt, A, B, C, D, first: Tensor | None, *, chunk: int, want_last: bool):
    """y [B, L, H, P] and the last state (None unless wanted), with what `native_backward` needs besides the inputs.

    Args:
        x, dt, A, B, C, D, first: as in `ssd`, all float32 or all float64, on the CPU.
    """
    x, dt, B, C = (_adjacent(t) for t in (x, dt, B, C))
    plan = Plan(x, B.shape[-1], chunk)
    y = torch.empty_like(x, memory_format=torch.contiguous_format)
    last = x.new_empty(plan.batch, plan.heads, plan.width, plan.state) if want_last else None
    kept = plan.kept(x)
    strided = {"x": x, "dt": dt, "b": B, "c": C, "y": y}
    whole = {"a": _solid(A, x.dtype), "d": _solid(D, x.dtype), "first": _solid(first, x.dtype)}
    plan.run("forward", strided, whole | {"last": last, "kept": kept})
    return y, last, kept


def native_backward(
    x: Tensor, dt, A, B, C, D, first, *, kept: Tensor | None, dy: Tensor, d_last: Tensor | None, chunk: int,
    want_first: bool, out: Tensor,
):  # fmt: skip
    """Writes the gradients of x, B and C side by side to `out` [B, L, H * P + 2 N].

    Returns:
        Gradients of dt, A, D and, if wanted, of `first` (else None).
    """
    x, dt, B, C, dy = (_adjacent(t) for t in (x, dt, B, C, dy))
    plan = Plan(x, B.shape[-1], chunk)
    dx, db_out, dc_out = out.split([plan.heads * plan.width, plan.state, plan.state], -1)
    ddt = torch.empty_like(dt, memory_format=torch.contiguous_format)
    da, dd = (x.new_empty(plan.batch, plan.heads) for _ in range(2))
    db, dc = (x.new_empty(plan.groups, plan.batch, plan.length, plan.state) for _ in range(2))
    d_first = x.new_empty(plan.batch, plan.heads, plan.width, plan.state) if want_first else None
    strided = {"x": x, "dt": dt, "b": B, "c": C, "y": dy, "dx": dx, "dy": dy}
    whole = {"a": _solid(A, x.dtype), "d": _solid(D, x.dtype), "first": _solid(first, x.dtype)}
    whole |= {"dlast": _solid(d_last, x.dtype), "kept": kept}
    plan.run("backward", strided, whole | {"ddt": ddt, "da": da, "dd": dd, "db": db, "dc": dc, "dfirst": d_first})
    torch.sum(db, 0, out=db_out)
    torch.sum(dc, 0, out=dc_out)
    return ddt, da.sum(0), dd.sum(0), d_first


class NativeScan:
    """`chunked.SlabScan` by the C++ kernel."""

    def __init__(self, x, dt, A, B, C, D, state: Tensor | None, chunk: int):
        self.inputs: Any = (x, dt, A, B, C, D, state)
        self.chunk, self.kept = chunk, None

    def forward(self, want_last: bool) -> tuple[Tensor, Tensor | None]:
        """y [B, L, H, P], and the state that leaves when it is wanted."""
        y, last, self.kept = native_forward(*self.inputs, chunk=self.chunk, want_last=want_last)
        return y, last

    def backward(self, dy: Tensor, d_last: Tensor | None, want_first: bool, out: Tensor) -> tuple:
        """Writes the gradients of x, B and C side by side to `out`; those of dt, A, D and the state are returned."""
        return native_backward(
            *self.inputs, kept=self.kept, dy=dy, d_last=d_last, chunk=self.chunk, want_first=want_first, out=out
        )


class NativeSSD(torch.autograd.Function):
    """`ssd` by the C++ kernel. Keeps the inputs and one state per segment of the sequence."""

    @staticmethod
    def forward(ctx, x, dt, A, B, C, D, initial_state, chunk: int, want_last: bool):
        f = torch.promote_types(x.dtype, torch.float32)
        inputs = _wide(f, x, dt, A, B, C, D, initial_state)
        y, last, kept = native_forward(*inputs, chunk=chunk, want_last=want_last)
        ctx.save_for_backward(x, dt, A, B, C, D, initial_state, kept)
        ctx.chunk = chunk
        return y.to(x.dtype), last

    @staticmethod
    def backward(ctx, dy, d_last):
        *inputs, kept = ctx.saved_tensors
        f = torch.promote_types(inputs[0].dtype, torch.float32)
        x, n = inputs[0], inputs[3].shape[-1]
        batch, length, heads, width = x.shape
        joined = x.new_empty(batch, length, heads * width + 2 * n, dtype=f)
        ddt, da, dd, d_first = native_backward(
            *_wide(f, *inputs), kept=kept, dy=dy.to(f), d_last=d_last, chunk=ctx.chunk,
            want_first=inputs[-1] is not None, out=joined,
        )  # fmt: skip
        dx, db, dc = joined.split([heads * width, n, n], -1)
        given = zip((dx.view(x.shape), ddt, da, db, dc, dd, d_first), inputs, strict=True)
        return *(None if t is None or g is None else g.to(t.dtype) for g, t in given), None, None
