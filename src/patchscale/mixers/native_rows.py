"""`TileOps` by our C++ code: each operation passes over its arrays once, rows or channels shared out to threads."""

from __future__ import annotations

import ctypes

import torch
from torch import Tensor

from patchscale.mixers.native import NativeScan, native_chunk
from patchscale.mixers.native_build import library


def _call(name: str, *arguments: Tensor | int | float) -> None:
    """Calls the library's function for the dtype of the tensors, which must have adjacent channels."""
    kinds = {t.dtype for t in arguments if isinstance(t, Tensor)}
    (dtype,) = kinds
    passed = [_passed(a) for a in (*arguments, torch.get_num_threads())]
    getattr(library(), f"{name}_{'float' if dtype == torch.float32 else 'double'}")(*passed)


def _passed(argument: Tensor | int | float):
    if isinstance(argument, Tensor):
        assert argument.stride(-1) == 1 or argument.shape[-1] == 1
        return ctypes.c_void_p(argument.data_ptr())
    return ctypes.c_double(argument) if isinstance(argument, float) else ctypes.c_long(argument)


def _view(t: Tensor) -> tuple[Tensor, int, int]:
    """A [B, T, C] tensor with its strides per image and row."""
    return t, t.stride(0), t.stride(1)


class NativeOps:
    """`TileOps` for float32 and float64 on a CPU."""

    scan = NativeScan

    def pick_chunk(self, length: int, device: torch.device) -> int:
        return native_chunk(length)

    def conv(self, x: Tensor, halo: int, taps: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        images, rows, width = x.shape[0], x.shape[1] - halo, x.shape[2]
        pre, act = (x.new_empty(images, rows, width) for _ in range(2))
        _call("conv_forward", images, rows, width, len(taps), halo, *_view(x), taps, bias, pre, act)
        return pre, act

    def conv_backward(self, d_act, pre, x, halo, taps, future, out, d_taps, d_bias):
        images, rows, width = pre.shape
        before = len(taps) - 1
        d_pre = pre.new_empty(images, rows + before, width)
        if future is None:
            d_pre[:, rows:].zero_()
        else:
            d_pre[:, rows:] = future
        _call(
            "conv_backward", images, rows, width, before + 1, halo, d_act, pre, *_view(x), taps, d_pre, *_view(out),
            d_taps, d_bias,
        )  # fmt: skip
        return d_pre[:, :before]

    def gate(self, y: Tensor, z: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        images, rows, width = y.shape
        g, factor = y.new_empty(images * rows, width), y.new_empty(images * rows, 1)
        _call("gate_forward", images, rows, width, y, *_view(z), float(eps), g, factor)
        return g, factor

    def gate_backward(self, dg, y, z, g, factor, out):
        _call("gate_backward", *y.shape, dg, y, *_view(z), g, factor, *_view(out))
        return dg.view(y.shape)

    def swiglu(self, h: Tensor) -> Tensor:
        act = h.new_empty(h.shape[0], h.shape[1] // 2)
        _call("swiglu_forward", *act.shape, h, act)
        return act

    def swiglu_backward(self, d_act: Tensor, h: Tensor) -> Tensor:
        _call("swiglu_backward", *d_act.shape, d_act, h)
        return h
