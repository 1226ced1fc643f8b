"""A plain encoder with a decoder that gives every pixel a class.

Shape letters: B batch, H height, W width, D encoder width, K classes, h x w the token grid, p patch size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from patchscale import models
from patchscale.errors import InputError
from patchscale.tasks.segmentation.upernet import Norm, UperNet, resize_like

DECODERS = ("upernet", "linear")
TAPS = 4
"""Depths of the encoder that UperNet reads: after each quarter of the blocks."""


class LinearHead(nn.Module):
    """One linear layer on every token: "Scaling Laws in Patchification", section 3.2."""

    def __init__(self, embed_dim: int, num_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Conv2d(embed_dim, num_classes, 1)
        nn.init.trunc_normal_(self.classifier.weight, std=0.02)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """The deepest of `features`, [B, D, h, w] -> [B, K, h, w]."""
        return self.classifier(features[-1])


class AuxiliaryHead(nn.Module):
    """Logits from a shallower depth, for a second loss during training (two convolutions, as in FCN)."""

    def __init__(self, embed_dim: int, num_classes: int, channels: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(
            nn.Conv2d(embed_dim, channels, 3, padding=1, bias=False), Norm(channels), nn.ReLU(inplace=True)
        )
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """The last but one of `features`, [B, D, h, w] -> [B, K, h, w]."""
        return self.classifier(self.hidden(features[-2]))


class Segmenter(nn.Module):
    """Encoder and decoder.

    Args:
        name: the encoder, a registered model; it is built without a head and takes any size that p divides, its
            positions resized on the fly where the size is not `input_size`.
        input_size: (H, W) of training.
        patch_size: p.
        num_classes: K.
        decoder: `upernet`, or `linear` (the deepest features and one linear layer).
        channels: width of UperNet and of the auxiliary head.
        auxiliary: build the auxiliary head.
        **model_kwargs: further arguments of the encoder.

    Raises:
        InputError: unknown decoder or model, or sizes that do not fit together.
    """

    def __init__(
        self,
        name: str,
        *,
        input_size: tuple[int, int],
        patch_size: int,
        num_classes: int,
        decoder: str = "upernet",
        channels: int = 192,
        auxiliary: bool = False,
        **model_kwargs: Any,
    ) -> None:
        super().__init__()
        if decoder not in DECODERS:
            raise InputError(f"unknown decoder {decoder!r}; use {' or '.join(DECODERS)}")
        self.input_size, self.patch_size, self.num_classes = input_size, patch_size, num_classes
        self.encoder: Any = models.create(
            name,
            input_size=input_size,
            patch_size=patch_size,
            num_classes=0,
            dynamic_img_size=True,
            **model_kwargs,
        )
        width = self.encoder.num_features
        depth = len(self.encoder.feature_info)
        taps = [max(0, -(-depth * (k + 1) // TAPS) - 1) for k in range(TAPS)]
        self.taps = taps if decoder == "upernet" else [taps[-2], taps[-1]] if auxiliary else [taps[-1]]
        self.decoder = (
            UperNet(width, patch_size, num_classes, channels)
            if decoder == "upernet"
            else LinearHead(width, num_classes)
        )
        self.auxiliary = AuxiliaryHead(width, num_classes, channels) if auxiliary else None

    def features(self, images: Tensor) -> list[Tensor]:
        """[B, 3, H, W] -> a normalised feature map [B, D, h, w] for each tapped depth, shallow to deep."""
        depths = sorted(set(self.taps))
        maps = self.encoder.forward_intermediates(images, indices=depths, norm=True, intermediates_only=True)
        at = dict(zip(depths, maps, strict=True))
        return [at[depth] for depth in self.taps]

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W], sides multiples of p -> logits [B, K, H, W]."""
        return resize_like(self.decoder(self.features(images)), images)

    def forward_train(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Logits [B, K, H, W], and the auxiliary head's if there is one."""
        features = self.features(images)
        extra = None if self.auxiliary is None else resize_like(self.auxiliary(features), images)
        return resize_like(self.decoder(features), images), extra

    def no_weight_decay(self) -> set[str]:
        """The encoder's parameters that are not decayed."""
        named = getattr(self.encoder, "no_weight_decay", None)
        return {f"encoder.{name}" for name in (named() if named else ())}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each block of the encoder in the backward pass."""
        self.encoder.set_grad_checkpointing(enable)


def pad_to_patches(images: Tensor, patch_size: int) -> Tensor:
    """Zeros (the mean colour of normalised images) on the right and at the bottom up to multiples of the patch size."""
    return F.pad(images, (0, -images.shape[-1] % patch_size, 0, -images.shape[-2] % patch_size))
