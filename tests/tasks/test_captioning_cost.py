"""What the vision-language model adds to its encoder is counted as torch counts it, at every n and with views."""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from patchscale.tasks import ModelSpec
from patchscale.tasks.captioning import Options, VisionLanguageModel
from patchscale.tasks.captioning.cost import WORDS, forward_flops, head_cost

SMALL = {"fusion_width": 16, "fusion_depth": 1, "fusion_heads": 2, "language_width": 24, "language_heads": 2}


@pytest.mark.parametrize("options", [{}, {"question": "inside"}, {"merge": True, "bottleneck": None}])
def test_counted_flops_are_those_of_torch(options):
    spec = ModelSpec(name="deit_atto_patch16", patch_size=8, input_size=32, options={"depth": 1})  # pyright: ignore
    chosen = Options(vision_tokens=5, **SMALL, **options)
    model = VisionLanguageModel(spec, 40, chosen).eval()
    words = torch.zeros(1, WORDS, dtype=torch.int64)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        maps = model.image_tokens(torch.zeros(1, 3, 32, 32))
        with FlopCounterMode(display=False) as counter:
            if model.merge is not None:
                model.merge(torch.zeros(1, model.encoder.num_features, 4, 4))
            asked = words if chosen.question == "inside" else None
            model.language(model.bottleneck(model.fusion(maps, asked, 5)), words)
    counted = sum(forward_flops(spec, 40, chosen, model.encoder.num_features, 24).values())
    assert counted == pytest.approx(counter.get_total_flops(), rel=0.01)
    params, flops = head_cost(spec, 40, chosen)
    assert flops == counted
    assert params == sum(p.numel() for name, p in model.named_parameters() if not name.startswith("encoder."))


def test_the_published_shape_is_built_and_counted_at_reduced_depth():
    spec = ModelSpec(name="deit_large_patch16", patch_size=14, input_size=336, options={"depth": 1})  # pyright: ignore
    options = Options(
        vision_tokens=256, queries=768, question="inside", merge=True, views=(4, 4), bottleneck=None, fusion_width=1024,
        fusion_depth=1, fusion_heads=16, fusion_places=False, language_width=4096, language_depth=1, language_heads=32,
        language_hidden=11008, language_places=0,
    )  # fmt: skip
    with torch.device("meta"):
        model = VisionLanguageModel(spec, 32_000, options)
        found = model(torch.empty(1, 3, 1344, 1344), torch.empty(1, 20).long(), torch.empty(1, 30).long(), 256)
    assert found.shape == (1, 30, 32_000)
    params, flops = head_cost(spec, 32_000, options)
    assert params > 4096 * 32_000 * 2
    more = head_cost(spec, 32_000, options.model_copy(update={"vision_tokens": 768}))[1]
    assert 1 < more / flops < 2  # most of the work does not depend on n


def test_further_views_are_further_passes_of_the_encoder():
    spec = ModelSpec(name="deit_atto_patch16", patch_size=8, input_size=32, options={"depth": 1})  # pyright: ignore
    options = Options(vision_tokens=5, **SMALL, views=(2, 2))
    model = VisionLanguageModel(spec, 40, options).eval()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.image_tokens(torch.zeros(1, 3, 64, 64))
    encoders = counter.get_total_flops()
    own = sum(forward_flops(spec, 40, options, model.encoder.num_features, 24).values())
    assert head_cost(spec, 40, options)[1] == pytest.approx(own + encoders * 4 / 5, rel=0.01)
