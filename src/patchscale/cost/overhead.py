"""Table 6 of the patchification paper, predicted: memory of an image, A100 hours of an epoch, the error per cell.

Memory: `activation_memory` of DeiT-Base under float16 autocast with fused attention, in MiB; no constant is fitted.
Hours: 1,281,167 images of three forward passes each, over the A100's dense half-precision peak times one efficiency per
family (`patchscale.cost.devices`); device-hours, so the number of devices does not matter.
"""

from __future__ import annotations

from typing import Any

from patchscale.cost.devices import device_of
from patchscale.cost.estimate import estimate
from patchscale.cost.memory import MIB, activation_memory
from patchscale.cost.time import model_flops_hours

IMAGENET_IMAGES = 1_281_167
MODELS = {"ViT-B": "deit_base_patch16", "DeiT-B": "deit_base_patch16", "Adventurer-B": "adventurer_base_patch16"}


def overhead_table() -> list[dict[str, Any]]:
    """One row a published cell: model, patch_size, tokens, quantity, published, predicted, error (relative)."""
    from patchscale.laws import published

    rows = []
    for cell in published(6).to_dict("records"):
        cost = estimate(MODELS[cell["model"]], input_size=int(cell["input"]), patch_size=int(cell["patch"]))
        if cell["metric"] == "memory_mb_per_image":
            predicted = activation_memory(cost, precision="float16").kept / MIB
        else:
            predicted = model_flops_hours(cost, device_of("a100"), IMAGENET_IMAGES)
        value = float(cell["value"])
        rows.append(
            {
                "model": cell["model"],
                "patch_size": cost.patch_size,
                "tokens": cost.tokens,
                "quantity": cell["metric"],
                "published": value,
                "predicted": predicted,
                "error": predicted / value - 1,
            }
        )
    return rows
