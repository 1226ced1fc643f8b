"""Table 7 of the patchification paper, counted: parameters of its ten models beside the millions it prints."""

from __future__ import annotations

from typing import Any

from patchscale.cost.estimate import estimate

FAMILIES = {"DeiT": "deit", "Adventurer": "adventurer"}
SIZES = {"T": "tiny", "S": "small", "B": "base", "L": "large", "H": "huge"}


def size_table() -> list[dict[str, Any]]:
    """One row a model at 224 pixels, patch 16 and 1,000 classes: model, params, params_without_positions, published.

    `published` is in parameters like the others, rounded to millions by the paper.
    """
    from patchscale.laws import published

    rows = []
    for cell in published(7).query("metric == 'params_million'").to_dict("records"):
        family, size = cell["model"].split("-")
        cost = estimate(f"{FAMILIES[family]}_{SIZES[size]}_patch16", input_size=224, patch_size=16)
        rows.append(
            {
                "model": cost.model,
                "params": cost.params,
                "params_without_positions": cost.params_without_positions,
                "published": float(cell["value"]) * 1e6,
            }
        )
    return rows
