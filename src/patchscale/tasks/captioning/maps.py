"""Where in an image a text is: the cosine between every fused image row and the text's embedding, as a picture.

For models of the contrastive stage, which puts images and answers into one space; source: the patch-text maps of the
repository of 2412.18387. Shape letters: B images, N image rows of a view, h x w their grid, D width.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from patchscale.tasks.captioning.contrastive import text_embedding
from patchscale.tasks.captioning.model import VisionLanguageModel
from patchscale.tasks.captioning.text import Spelled

COLD, HOT = (31, 111, 180), (200, 80, 10)
"""Colours of the smallest and the largest cosine of a picture; halfway the image is left as it is."""


@torch.no_grad()
def patch_text_maps(model: VisionLanguageModel, images: Tensor, text: Spelled) -> Tensor:
    """Cosines in [-1, 1], float32 [B, h, w], of the whole view's rows with the answers of `text`.

    Args:
        model: in evaluation mode, of the contrastive stage.
        images: normalised float32 [B, 3, H, W].
        text: a question and an answer for each image.
    """
    rows = model.fusion.image_rows(model.image_tokens(images))
    height, width = (side // model.encoder.patch_embed.patch_size[0] for side in model.input_size)
    if model.merge is not None:
        height, width = math.ceil(height / 2), math.ceil(width / 2)
    cosine = F.cosine_similarity(rows[:, : height * width].float(), text_embedding(model, text)[:, None].float(), dim=2)
    return cosine.view(len(images), height, width)


def map_picture(image: np.ndarray, cosines: np.ndarray, opacity: float = 0.6) -> Image.Image:
    """Cosines [h, w] over an image uint8 [3, H, W]: blue where the smallest, orange where the largest lies."""
    spread = cosines - (cosines.max() + cosines.min()) / 2
    share = spread / max(float(np.abs(spread).max()), 1e-9)
    height, width = image.shape[1:]
    rows, columns = np.arange(height) * len(share) // height, np.arange(width) * share.shape[1] // width
    wide = share[rows[:, None], columns[None, :], None]
    colour = np.where(wide > 0, np.array(HOT), np.array(COLD))
    weight = opacity * np.abs(wide)
    return Image.fromarray((image.transpose(1, 2, 0) * (1 - weight) + colour * weight).round().astype(np.uint8))
