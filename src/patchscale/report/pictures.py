"""Token pictures: one test image cut at every patch size of a study, each token set apart from its neighbours."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from patchscale.data import DataSpec, load
from patchscale.errors import InputError
from patchscale.report.run import Run

SIDE = 288
"""Pixels to which small images are enlarged, at most; every pixel of the image stays a square."""
MOST = 12
"""Pictures in a report, at most."""


def token_pictures(run: Run) -> dict[str, Any]:
    """The pictures as PNG data addresses, or why there are none; dense tasks show their images with predictions.

    Returns:
        {"pictures": [{"input_size", "patch_size", "tokens", "gap", "alt", "source"}], "note": str}; the note says
        which image it is, or that the data set is not on this machine.
    """
    grids = _grids(run.results)
    spec = next((config["data"] for config in run.configs.values() if "data" in config), None)
    dense = any(config.get("task", "classification") != "classification" for config in run.configs.values())
    if spec is None or dense or not grids:
        return {"pictures": [], "note": ""}
    pictures: list[dict[str, Any]] = []
    note = ""
    for (height, width), patches in grids.items():
        try:
            images = load(DataSpec.model_validate(spec), split="test", input_size=(height, width))
        except InputError as error:
            return {"pictures": [], "note": f"No token pictures: {error}."}
        pixels = images.read([0])[0].permute(1, 2, 0).numpy()
        about = f"the first test image of {images.name}, of class {images.classes[int(images.labels[0])]}"
        note = about[0].upper() + about[1:] + "."
        for patch in patches:
            tokens = (height // patch) * (width // patch)
            cut, gap = cut_image(pixels, patch)
            pictures.append(
                {
                    "input_size": height if height == width else f"{height}x{width}",
                    "patch_size": patch,
                    "tokens": tokens,
                    "gap": gap,
                    "alt": f"{note[:-1]}, cut into {tokens:,} tokens of {patch} by {patch} pixels.",
                    "source": png_address(cut),
                }
            )
    return {"pictures": pictures[:MOST], "note": note}


def cut_image(pixels: np.ndarray, patch_size: int) -> tuple[np.ndarray, int]:
    """Moves the patches of an image apart.

    Args:
        pixels: uint8 [H, W, 3], H and W multiples of the patch size.
        patch_size: side of a patch, pixels.

    Returns:
        (uint8 [H', W', 4], transparent between patches; the gap's width, 0 where patches are too small to show one).
    """
    height, width, _ = pixels.shape
    scale = max(1, SIDE // max(height, width))
    cell = patch_size * scale
    gap = 2 if cell >= 16 else 1 if cell >= 4 else 0
    rows, columns = height // patch_size, width // patch_size
    large = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    out = np.zeros((rows * (cell + gap) - gap, columns * (cell + gap) - gap, 4), dtype=np.uint8)
    down = np.arange(rows * cell) + np.arange(rows * cell) // cell * gap
    across = np.arange(columns * cell) + np.arange(columns * cell) // cell * gap
    out[down[:, None], across[None, :], :3] = large
    out[down[:, None], across[None, :], 3] = 255
    return out, gap


def png_address(pixels: np.ndarray) -> str:
    """A PNG as a data address."""
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _grids(results: pd.DataFrame) -> dict[tuple[int, int], list[int]]:
    """Patch sizes from coarse to fine for every input size, as (height, width)."""
    if results.empty or not {"patch_size", "input_size"} <= set(results.columns):
        return {}
    grids: dict[tuple[int, int], list[int]] = {}
    for size, part in results.groupby("input_size", sort=True):
        sides = [int(side) for side in str(size).split("x")]
        grids[(sides[0], sides[-1])] = [int(patch) for patch in sorted(set(part["patch_size"]), reverse=True)]
    return grids
