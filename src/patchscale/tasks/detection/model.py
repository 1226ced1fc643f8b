"""(Cascade) Mask R-CNN on a plain encoder.

Shape letters: B batch, H height and W width of the canvas, n objects of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

from patchscale.tasks.detection.heads import CascadeHeads
from patchscale.tasks.detection.options import Options
from patchscale.tasks.detection.proposals import ProposalNetwork, Targets
from patchscale.tasks.detection.pyramid import TokenPyramid
from patchscale.tasks.detection.sampling import Generators, image_generators


class Found(NamedTuple):
    """What a detector makes of a batch.

    Attributes:
        losses: `rpn_loss`, `box_loss`, `mask_loss`, means over images; empty without objects.
        detected: boxes, scores, labels (from 1) and masks of each image; empty while training.
    """

    losses: dict[str, Tensor]
    detected: list[dict[str, Tensor]]


class Detector(nn.Module):
    """Encoder, pyramid, proposals, heads.

    Args:
        encoder: a model of `patchscale.models` or a timm ViT.
        patch_size: of the encoder.
        classes: number of classes, the ground not counted.
        options: of the task.
    """

    def __init__(self, encoder: nn.Module, patch_size: int, classes: int, options: Options) -> None:
        super().__init__()
        self.encoder = encoder
        self.pyramid = TokenPyramid(int(encoder.embed_dim), patch_size, options.width)  # type: ignore[arg-type]
        self.proposals = ProposalNetwork(options)
        self.heads = CascadeHeads(classes, options)

    def forward(
        self,
        images: Tensor,
        sizes: list[tuple[int, int]],
        objects: Targets | None = None,
        seeds: Sequence[int] = (),
    ) -> Found:
        """Losses where the true objects are given, detected ones unless training.

        Args:
            images: float [B, 3, H, W], normalised; zero beyond each image.
            sizes: (h, w) that each image takes of the canvas.
            objects: boxes [n, 4], labels int64 [n] from 1, masks uint8 [n, H, W] of each image.
            seeds: one for each image where the objects are given; decide which samples the losses are made of.
        """
        features = self.pyramid(self.tokens(images))
        with torch.autocast(images.device.type, enabled=False):
            maps = {level: x.float() for level, x in features.items()}
            return self._found(maps, images, sizes, objects, image_generators(seeds))

    def tokens(self, images: Tensor) -> Tensor:
        """[B, D, rows, columns]: the last block's tokens after the encoder's norm."""
        return self.encoder.forward_intermediates(images, indices=1, norm=True, intermediates_only=True)[0]  # type: ignore

    def _found(
        self,
        features: dict[str, Tensor],
        images: Tensor,
        sizes: list[tuple[int, int]],
        objects: Targets | None,
        generators: Generators,
    ) -> Found:
        canvas = self.pyramid.canvas((images.shape[-2], images.shape[-1]))
        covered = images.new_zeros(()).expand(len(images), 1, *canvas)  # anchors need its shape alone
        proposals, losses = self.proposals(ImageList(covered, sizes), features, objects, generators)
        if objects is not None:
            losses |= self.heads.losses(features, proposals, sizes, canvas, objects, generators)
        detected = [] if self.training else self.heads.detect(features, proposals, sizes, canvas)
        return Found(losses, detected)

    def no_weight_decay(self) -> set[str]:
        """The encoder's exceptions and every one-dimensional parameter."""
        named = self.encoder.no_weight_decay() if hasattr(self.encoder, "no_weight_decay") else ()  # type: ignore
        return {f"encoder.{name}" for name in named} | {n for n, p in self.named_parameters() if p.ndim <= 1}
