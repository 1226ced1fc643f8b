"""Masked autoencoding: the encoder sees a few patches, a light decoder fills in the pixels of the others.

"Masked Autoencoders Are Scalable Vision Learners". A causal encoder (Adventurer) reads the visible patches in their
order in the image, its class token last as ever. Shape letters: B batch, N patches, V visible ones, M = N - V masked
ones, D and d widths of encoder and decoder, p patch size, n measured samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from patchscale import data as datasets
from patchscale import models
from patchscale.data import Crop, DataSpec, Draws, normalise
from patchscale.errors import InputError
from patchscale.tasks.task import Autocast, Batch, ModelSpec, Regularisation
from patchscale.tokens import patchify, sincos_positions

EVALUATION_BATCH = 256
EPSILON = 1e-6
"""Added to a patch's variance, as released."""


class Options(BaseModel):
    """What is masked, and how large the decoder is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mask_ratio: float = Field(default=0.75, gt=0, lt=1)
    """Share of an image's patches that the encoder does not see."""
    decoder_depth: int = Field(default=8, gt=0)
    decoder_dim: int = Field(default=512, gt=0)
    decoder_heads: int = Field(default=16, gt=0)
    normalise_pixels: bool = True
    """Each patch's pixels are predicted after subtracting their mean and dividing by their standard deviation."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Options:
        if self.decoder_dim % self.decoder_heads or self.decoder_dim % 4:
            raise ValueError(
                f"decoder_dim {self.decoder_dim} must be a multiple of 4 and of decoder_heads {self.decoder_heads}"
            )
        return self


class MaskedAutoencoder(nn.Module):
    """Encoder and decoder.

    Args:
        spec: of the encoder, which has no head.
        options: of the decoder.

    Raises:
        InputError: an encoder that is more than blocks and a last norm on one class token and its patches.
    """

    def __init__(self, spec: ModelSpec, options: Options) -> None:
        super().__init__()
        self.encoder: Any = models.create(spec.name, num_classes=0, **spec.arguments)
        if not _is_plain(self.encoder):
            raise InputError(
                f"task masked runs an encoder's blocks on its class token and some patches, and {spec.name} needs more "
                "(register tokens, a norm before the blocks, other positions) or has no class token; use a deit_*, an "
                "adventurer_*, or a timm ViT of their build"
            )
        self.decoder = Decoder(self.encoder.embed_dim, self.encoder.patch_embed.grid_size, spec.patch_size, options)

    def forward(self, images: Tensor, visible: Tensor) -> Tensor:
        """Pixels of every patch, [B, N, 3 p^2], of images [B, 3, H, W] of which patches `visible` [B, V] are seen."""
        return self.decoder(self.encode(images, visible), visible)

    def encode(self, images: Tensor, visible: Tensor) -> Tensor:
        """The visible patches after the encoder, [B, V, D], in order of `visible`, which rises."""
        encoder = self.encoder
        tokens = encoder.patch_embed(images)
        rows = encoder.pos_embed.shape[1] - tokens.shape[1]
        causal = isinstance(encoder, models.Adventurer)
        before, after = (0, rows) if causal else (rows, 0)
        places = encoder.pos_embed[:, before : before + tokens.shape[1]]
        seen = (tokens + places).gather(1, visible[..., None].expand(-1, -1, tokens.shape[2]))
        own = encoder.pos_embed[:, -rows:] if causal else encoder.pos_embed[:, :rows]
        token = (encoder.cls_token + own).expand(len(images), -1, -1)
        x = torch.cat([seen, token] if causal else [token, seen], dim=1)
        for block in encoder.layers if causal else encoder.blocks:
            x = block(x)
        x = encoder.norm_f(x) if causal else encoder.norm(x)
        return x[:, before : x.shape[1] - after]

    def no_weight_decay(self) -> set[str]:
        """The encoder's exceptions, and the mask token."""
        return {f"encoder.{name}" for name in self.encoder.no_weight_decay()} | {"decoder.mask_token"}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Not offered: the encoder sees few tokens as it is."""
        if enable:
            raise InputError("masked autoencoding does not recompute blocks; leave grad checkpointing off")


def _is_plain(encoder: Any) -> bool:
    """Whether blocks and last norm on class token and patches, positions added, are all of the encoder."""
    if isinstance(encoder, models.Adventurer):
        return True
    return (
        isinstance(encoder, VisionTransformer)
        and encoder.has_class_token
        and encoder.num_prefix_tokens == 1
        and not encoder.no_embed_class
        and encoder.pos_embed is not None
        and isinstance(encoder.norm_pre, nn.Identity)
    )


class Decoder(nn.Module):
    """A small ViT over all places of the grid, those that were not seen filled with one learned token.

    Args:
        embed_dim: D.
        grid: rows and columns of patches.
        patch_size: p.
        options: its size.
    """

    positions: Tensor

    def __init__(self, embed_dim: int, grid: tuple[int, int], patch_size: int, options: Options) -> None:
        super().__init__()
        width = options.decoder_dim
        self.embed = nn.Linear(embed_dim, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("positions", sincos_positions(grid, width)[None], persistent=False)
        self.blocks = nn.ModuleList(
            Block(width, options.decoder_heads, qkv_bias=True) for _ in range(options.decoder_depth)
        )
        self.norm = nn.LayerNorm(width)
        self.pixels = nn.Linear(width, 3 * patch_size**2)
        nn.init.normal_(self.mask_token, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, seen: Tensor, visible: Tensor) -> Tensor:
        """[B, V, D] at places `visible` [B, V] -> pixels of every place [B, N, 3 p^2]."""
        seen = self.embed(seen)
        batch, width = len(seen), seen.shape[2]
        x = self.mask_token.to(seen.dtype).expand(batch, self.positions.shape[1], width)
        x = x.scatter(1, visible[..., None].expand(-1, -1, width), seen) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.pixels(self.norm(x))


class Measured(NamedTuple):
    """Test samples, one by one."""

    indices: Tensor
    """int64 [n]."""
    losses: Tensor
    """Mean squared error of the masked pixels, float32 [n]."""


class Masked:
    """Masked autoencoding of a data set's images; labels are not looked at."""

    Options = Options

    def __init__(self, model: ModelSpec, data: DataSpec, options: Options, regularisation: Regularisation) -> None:
        if regularisation.mixing.active or regularisation.label_smoothing:
            raise InputError(
                "task masked has no labels to mix or smooth; set recipe.mixing and label_smoothing to none"
            )
        self.spec, self.options, self.augment = model, options, regularisation.augment
        self.visible = visible_tokens(model, options)
        self.train_set = datasets.load(data, split="train", input_size=model.input_size)
        self.test_set = datasets.load(data, split="test", input_size=model.input_size)
        self.classes: tuple[str, ...] = ()
        self.train_size, self.test_size = len(self.train_set), len(self.test_set)
        self.decodes = not self.train_set.in_memory
        self.mean, self.std = self.train_set.mean, self.train_set.std

    @staticmethod
    def network(spec: ModelSpec, classes: int, options: Options) -> nn.Module:
        """Encoder and decoder; there are no classes."""
        return MaskedAutoencoder(spec, options)

    def build_model(self) -> nn.Module:
        """See `Task.build_model`."""
        return self.network(self.spec, 0, self.options)

    def encoder(self, model: nn.Module) -> nn.Module:
        """The encoder, which classification starts from."""
        return model.encoder  # pyright: ignore[reportReturnType]

    def batch(self, indices: Tensor, seed: int, rows: slice) -> Batch:
        """Inputs float32 [B, 3, H, W]; targets are the visible patches, int64 [B, V], rising."""
        draws = Draws(torch.Generator().manual_seed(seed), len(indices), rows)
        crop = Crop(seed, rows.indices(len(indices))[0], self.augment.crop_scale)
        images = self.augment(self.train_set.read(indices[rows], crop), draws)
        noise = draws.uniform(0, 1, self.spec.tokens).T
        return Batch(normalise(images, self.mean, self.std), self._seen(noise))

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean squared error over the masked pixels."""
        return self._losses(model(batch.inputs, batch.targets), batch.inputs, batch.targets).mean()

    def measure(self, model: nn.Module, device: torch.device, autocast: Autocast, indices: Tensor) -> Measured:
        """See `Task.measure`; what is masked of a test image depends on its index alone."""
        losses = []
        for chosen in indices.split(max(8, min(EVALUATION_BATCH, 65_536 // self.spec.tokens))):
            images = normalise(self.test_set.read(chosen).to(device), self.mean, self.std)
            noise = [torch.rand(self.spec.tokens, generator=torch.Generator().manual_seed(i)) for i in chosen.tolist()]
            visible = self._seen(torch.stack(noise)).to(device)
            with autocast():
                predicted = model(images, visible)
            losses.append(self._losses(predicted, images, visible).cpu())
        return Measured(indices, torch.cat(losses))

    def scores(self, parts: Sequence[Measured]) -> dict[str, float]:
        """`test_loss`: mean squared error of the masked pixels (of unit variance in each patch where normalised)."""
        order = torch.cat([part.indices for part in parts]).argsort()
        return {"test_loss": torch.cat([part.losses for part in parts])[order].double().mean().item()}

    @staticmethod
    def predict(*_: Any) -> Any:
        """See `training.use.predict_images`.

        Raises:
            InputError: always; an autoencoder has nothing to say of an image.
        """
        raise InputError("these weights are a masked autoencoder's, without classes; start a classification from them")

    @staticmethod
    def encoder_tokens(spec: ModelSpec, options: Options) -> int:
        """Patches that the encoder's blocks see."""
        return visible_tokens(spec, options)

    @staticmethod
    def head_cost(spec: ModelSpec, classes: int, options: Options) -> tuple[int, int]:
        """Parameters and forward FLOPs of the decoder (a multiply-add as 2)."""
        with torch.device("meta"), torch.no_grad():
            decoder: Any = MaskedAutoencoder(spec, options).decoder
            seen = torch.empty(1, visible_tokens(spec, options), decoder.embed.in_features)
            with FlopCounterMode(display=False) as counter:
                decoder(seen, torch.zeros(seen.shape[:2], dtype=torch.long))
        return sum(part.numel() for part in decoder.parameters()), counter.get_total_flops()

    def _seen(self, noise: Tensor) -> Tensor:
        """The places of the V smallest of each row of noise [B, N], rising."""
        return noise.argsort(dim=1)[:, : self.visible].sort(dim=1).values

    def _losses(self, predicted: Tensor, images: Tensor, visible: Tensor) -> Tensor:
        """Per image [B]: the mean over its masked patches' pixels, predictions [B, N, 3 p^2]."""
        wanted = patchify(images.float(), self.spec.patch_size)
        if self.options.normalise_pixels:
            variance, mean = torch.var_mean(wanted, dim=2, keepdim=True)
            wanted = (wanted - mean) / (variance + EPSILON).sqrt()
        errors = (predicted.float() - wanted).square().mean(dim=2)
        masked = torch.ones_like(errors).scatter(1, visible, 0.0)
        return (errors * masked).sum(dim=1) / masked.sum(dim=1)


def visible_tokens(spec: ModelSpec, options: Options) -> int:
    """V, at least one and at most N - 1.

    Raises:
        InputError: the image is a single patch, of which none could be masked.
    """
    if spec.tokens < 2:
        raise InputError(f"task masked needs at least two patches; {spec.size} at patch size {spec.patch_size} has one")
    return min(max(1, int(spec.tokens * (1 - options.mask_ratio))), spec.tokens - 1)
