"""What a vision-language model adds to one pass of its encoder, counted from shapes.

Shape letters: V views, N image tokens of a view after the merge, Q question words, n vision tokens, T words.
"""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from patchscale.tasks.captioning.decoder import decoder_cost
from patchscale.tasks.captioning.model import VisionLanguageModel, image_rows, views
from patchscale.tasks.captioning.options import Options
from patchscale.tasks.task import ModelSpec

WORDS = 16
"""Words of a question and its answer that a forward pass is counted with."""


def head_cost(spec: ModelSpec, classes: int, options: Options) -> tuple[int, int]:
    """Parameters and forward FLOPs of an image (a multiply-add as 2) beyond one pass of the encoder.

    Further views of the image are counted by torch's counter, which leaves out the mixer of an Adventurer.
    """
    with torch.device("meta"), torch.no_grad():
        model = VisionLanguageModel(spec, classes, options).eval()
        further = 0
        if views(options) > 1:
            with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
                model.encoder.forward_features(torch.empty(1, 3, *spec.input_size))
            further = (views(options) - 1) * counter.get_total_flops()
    own = sum(part.numel() for part in model.parameters()) - sum(part.numel() for part in model.encoder.parameters())
    counted = forward_flops(spec, classes, options, model.encoder.num_features, model.language.width)
    return own, further + sum(counted.values())


def image_flops(spec: ModelSpec, options: Options, image_width: int, encoder: int, total: int) -> dict[str, int]:
    """Forward FLOPs of an image by stage: encoder, fusion, and the language model with its bottleneck.

    Args:
        spec: the encoder.
        options: of the model.
        image_width: of the encoder's tokens.
        encoder: FLOPs of one pass of the encoder.
        total: FLOPs of everything, as counted for the trial.
    """
    counted = forward_flops(spec, 0, options, image_width, options.language_width)
    parts = {"encoder": views(options) * encoder, "fusion": counted["merge"] + counted["fusion"]}
    return {**parts, "language": total - sum(parts.values())}


def forward_flops(
    spec: ModelSpec, classes: int, options: Options, image_width: int, language_width: int, words: int = WORDS
) -> dict[str, int]:
    """FLOPs of one image's forward pass by part: merge, fusion, bottleneck, language."""
    count, rows = options.counts[-1], image_rows(spec, options)
    width = options.fusion_width
    inside = words if options.question == "inside" else 0
    merged = rows - views(options) if options.merge else 0
    channels = options.bottleneck or 0
    narrow = 2 * count * (width * channels + channels * language_width if channels else width * language_width)
    hidden = options.language_hidden or 4 * language_width
    return {
        "merge": 2 * merged * 9 * image_width**2,
        "fusion": 2 * rows * image_width * width
        + decoder_cost(width, options.fusion_depth, 4 * width, rows + inside + count),
        "bottleneck": narrow,
        "language": decoder_cost(language_width, options.language_depth, hidden, count + words)
        + 2 * words * language_width * classes,
    }
