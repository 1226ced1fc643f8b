"""FLOPs of a real model's prefill from its configuration, encoder and projector included; and measured times.

A multiply-add counts as 2, attention on the whole square, softmax, norms and additions not at all, as torch's counter
counts unfused attention. Shape letters: L rows, D width, F hidden width.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from patchscale.errors import InputError
from patchscale.tasks.captioning.real_models import ReducedVLM


@dataclass(frozen=True)
class Stack:
    """Blocks of one kind.

    Attributes:
        depth: blocks.
        width: D.
        queries: heads times head width.
        keys: heads of keys times head width.
        hidden: F.
        gated: whether the MLP has a gate.
    """

    depth: int
    width: int
    queries: int
    keys: int
    hidden: int
    gated: bool

    def flops(self, rows: int, square: float | None = None) -> int:
        """Of one pass over L rows; `square`: pairs that attend to each other, L^2 by default."""
        linear = 2 * self.width * (self.queries + self.keys) + (3 if self.gated else 2) * self.width * self.hidden
        pairs = rows**2 if square is None else square
        return round(2 * self.depth * (rows * linear + 2 * pairs * self.queries))


class PrefillFlops(NamedTuple):
    """Of one image and its text, by part."""

    encoder: int
    projector: int
    language: int

    @property
    def total(self) -> int:
        """Of the whole pipeline: fewer tokens save only the last part."""
        return sum(self)


class Times(NamedTuple):
    """Seconds, medians of repeated runs."""

    image: float
    """Encoder, projector and reducer."""
    prefill: float
    """The language model on the whole text."""
    decode: float
    """Of one further word."""


def prefill_flops(
    config: Any, *, text: int, kept_tokens: int | None = None, patches: int | None = None
) -> PrefillFlops:
    """Counts one image with `text` other rows.

    Args:
        config: of a LLaVA, PaliGemma or Qwen-VL model.
        text: rows that are not vision tokens.
        kept_tokens: n; all by default.
        patches: of the image, for models that take any size (Qwen-VL).

    Raises:
        InputError: a model of another kind, or a number of patches that is missing.
    """
    kind = config.model_type
    if kind in ("llava", "paligemma"):
        encoder, projector, features = _plain(config)
    elif kind in ("qwen2_vl", "qwen2_5_vl"):
        if patches is None:
            raise InputError(f"{kind} takes images of any size; give patches, the number that the image is cut into")
        encoder, projector, features = _qwen(config, patches)
    else:
        raise InputError(f"no count for model type {kind!r}; there are llava, paligemma, qwen2_vl and qwen2_5_vl")
    rows = text + min(kept_tokens or features, features)
    language = config.text_config
    head = 2 * rows * language.hidden_size * language.vocab_size
    return PrefillFlops(encoder, projector, language_stack(language).flops(rows) + head)


def language_stack(config: Any) -> Stack:
    """The blocks of a language model from its configuration."""
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Stack(
        depth=config.num_hidden_layers,
        width=config.hidden_size,
        queries=config.num_attention_heads * head,
        keys=config.num_key_value_heads * head,
        hidden=config.intermediate_size,
        gated=True,
    )


@torch.no_grad()
def measure_times(model: ReducedVLM, inputs: Mapping[str, Tensor], *, words: int = 8, runs: int = 3) -> Times:
    """Measures on the device where the model lies, once to warm up and `runs` times for the median."""
    device = inputs["input_ids"].device
    found = [_timed(model, inputs, words, device) for _ in range(runs + 1)][1:]
    return Times(*(sorted(values)[runs // 2] for values in zip(*found, strict=True)))


def _timed(model: ReducedVLM, inputs: Mapping[str, Tensor], words: int, device: torch.device) -> Times:
    started = _now(device)
    prepared = model.prepare(inputs)
    seen = _now(device)
    found = model.model(**prepared.arguments, use_cache=True, **model.last_alone)
    read = _now(device)
    model.continue_from(prepared, found, words + 1)
    return Times(seen - started, read - seen, (_now(device) - read) / words)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _plain(config: Any) -> tuple[int, int, int]:
    """Encoder and projector FLOPs and features of LLaVA (CLIP, two linear layers) or PaliGemma (SigLIP, one)."""
    vision, width = config.vision_config, config.text_config.hidden_size
    patches = (vision.image_size // vision.patch_size) ** 2
    llava = config.model_type == "llava"
    stack = Stack(
        vision.num_hidden_layers, vision.hidden_size, vision.hidden_size, vision.hidden_size, vision.intermediate_size,
        gated=False,
    )  # fmt: skip
    embed = 2 * patches * vision.num_channels * vision.patch_size**2 * vision.hidden_size
    features = patches + int(llava and config.vision_feature_select_strategy == "full")
    projector = 2 * features * vision.hidden_size * width + (2 * features * width**2 if llava else 0)
    return embed + stack.flops(patches + int(llava)), projector, features


def _qwen(config: Any, patches: int) -> tuple[int, int, int]:
    """The same of Qwen-VL, whose merger joins neighbouring patches before two linear layers."""
    vision = config.vision_config
    newer = config.model_type == "qwen2_5_vl"
    width = vision.hidden_size if newer else vision.embed_dim
    out = vision.out_hidden_size if newer else vision.hidden_size
    hidden = vision.intermediate_size if newer else int(width * vision.mlp_ratio)
    stack = Stack(1, width, width, width, hidden, gated=newer)
    whole = len([layer for layer in vision.fullatt_block_indexes if layer < vision.depth]) if newer else vision.depth
    window = min(patches, (vision.window_size // vision.patch_size) ** 2) if newer else patches
    blocks = whole * stack.flops(patches) + (vision.depth - whole) * stack.flops(patches, patches * window)
    embed = 2 * patches * vision.in_channels * vision.temporal_patch_size * vision.patch_size**2 * width
    features, joined = patches // vision.spatial_merge_size**2, width * vision.spatial_merge_size**2
    return embed + blocks, 2 * features * joined * (joined + out), features
