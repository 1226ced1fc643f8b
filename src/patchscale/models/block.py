"""One block of the Adventurer: plain, as one reads it, and lean, as it runs."""

from __future__ import annotations

from typing import Any

import torch
from timm.layers.drop import DropPath
from torch import Tensor, nn

from patchscale.mixers import Mamba2, RMSNorm, resolve_backend
from patchscale.mixers.lean import LeanMixer, MixerSpec, lean_mixer_
from patchscale.mixers.lean_mlp import LeanMlp, lean_mlp_
from patchscale.models.swiglu import SwiGLU


def reverse_tokens(x: Tensor) -> Tensor:
    """Reverses the rows of [B, N + 1, D] except the last, the class token's."""
    return torch.cat([x[:, :-1].flip(1), x[:, -1:]], dim=1)


class AdventurerBlock(nn.Module):
    """Norm, optional flip, heading average, causal mixer, residual; norm, SwiGLU, residual.

    `lean` (default) computes each half by `LeanMixer` and `LeanMlp`: tiles that stay in cache, next to nothing kept
    for the backward pass. It applies where the SSD backend is `native` or `torch` (the default but on an NVIDIA GPU),
    outside export and compilation; elsewhere, and with `lean = False`, the plain formula runs.
    """

    def __init__(self, dim: int, mlp_hidden: int, flip: bool, drop_path: float, mixer: dict[str, Any], **dd):
        super().__init__()
        self.flip, self.lean = flip, True
        self.norm = RMSNorm(dim, **dd)
        self.mixer = Mamba2(dim, **mixer, **dd)
        self.norm_mlp = RMSNorm(dim, **dd)
        self.mlp = SwiGLU(dim, mlp_hidden, **dd)
        self.drop_path1 = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.drop_path2 = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Tensor, inplace: bool = False) -> Tensor:
        """[B, N + 1, D] -> [B, N + 1, D]; `inplace` lets x be overwritten when no gradient is wanted."""
        return self._forward_lean(x, inplace) if self.runs_lean(x) else self._forward_plain(x)

    def _forward_plain(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        head = y.mean(dim=1, keepdim=True)
        y = self.mixer(torch.cat([head, reverse_tokens(y) if self.flip else y], dim=1))[:, 1:]
        x = x + self.drop_path1(reverse_tokens(y) if self.flip else y)
        return x + self.drop_path2(self.mlp(self.norm_mlp(x)))

    def runs_lean(self, x: Tensor) -> bool:
        """Whether the tiled form will run for this input."""
        if not self.lean or torch.compiler.is_compiling() or torch.compiler.is_exporting() or x.is_meta:
            return False
        return resolve_backend(self.mixer.backend, x.device) in ("native", "torch")

    def _keep(self, drop_path: nn.Module, x: Tensor) -> Tensor | None:
        """Stochastic depth's factor per image [B, 1, 1], drawn as timm's DropPath draws it."""
        if not isinstance(drop_path, DropPath) or not self.training:
            return None
        return drop_path(x.new_ones(x.shape[0], 1, 1))

    def _forward_lean(self, x: Tensor, inplace: bool) -> Tensor:
        m, mlp, kind = self.mixer, self.mlp, x.device.type
        compute = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else m.in_proj.weight.dtype
        backend = resolve_backend(m.backend, x.device)
        spec = MixerSpec(self.flip, m.headdim, self.norm.eps, m.chunk_size, compute, backend)
        mixing = (
            self.norm.weight, m.in_proj.weight, m.conv1d.weight, m.conv1d.bias, m.dt_bias, m.A_log, m.D, m.norm.weight,
            m.out_proj.weight, spec,
        )  # fmt: skip
        gating = (
            self.norm_mlp.weight, mlp.w1.weight, mlp.w1.bias, mlp.w2.weight, mlp.w2.bias, mlp.w3.weight, mlp.w3.bias,
            self.norm_mlp.eps, compute, backend,
        )  # fmt: skip
        with torch.autocast(kind, enabled=False):
            if inplace and not torch.is_grad_enabled() and not self.training and x.is_contiguous():
                return lean_mlp_(lean_mixer_(x, *mixing), *gating)
            x = LeanMixer.apply(x, self._keep(self.drop_path1, x), *mixing)
            return LeanMlp.apply(x, self._keep(self.drop_path2, x), *gating)
