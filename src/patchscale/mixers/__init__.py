"""What mixes tokens: the state-space duality (SSD) of Mamba-2 behind one function, and the mixer built on it.

`ssd` has several backends that agree with the step-by-step `reference`; attention is timm's and needs no room here.
"""

from patchscale.mixers.backends import BACKENDS, backend_report, resolve_backend
from patchscale.mixers.conv import causal_conv_silu
from patchscale.mixers.mamba2 import Mamba2, MixerState
from patchscale.mixers.norms import RMSNorm, gated_rms_norm, rms_norm
from patchscale.mixers.reference import ssd_step
from patchscale.mixers.ssd import ssd

__all__ = [
    "BACKENDS",
    "Mamba2",
    "MixerState",
    "RMSNorm",
    "backend_report",
    "causal_conv_silu",
    "gated_rms_norm",
    "resolve_backend",
    "rms_norm",
    "ssd",
    "ssd_step",
]
