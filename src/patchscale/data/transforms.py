"""Augmentation of uint8 batches, and the step to normalised floats.

All randomness comes from explicit `Draws`, the same on every device and for every division of a batch into parts, so
equal generators give equal augmentation. Shape letters: B batch, H height, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, field_validator
from torch import Generator, Tensor

from patchscale.data.draws import Draws
from patchscale.data.image_set import IMAGENET_MEAN, Colour
from patchscale.data.rand_augment import policy, rand_augment

_GREY = (0.299, 0.587, 0.114)  # ITU-R 601 luma, as Pillow


class Augment(BaseModel):
    """What to do to training images; calling it applies the steps in the order of the attributes.

    Attributes:
        crop_padding: pixels reflected onto each border before cutting a random window of the old size.
        horizontal_flip: probability of mirroring left and right.
        rand_augment: timm's configuration of RandAugment, such as `rand-m9-mstd0.5-inc1` (Cubuk et al.; DeiT, table 9).
        three_augment: one of grey, solarise, Gaussian blur for every image: DeiT III, section 3.2.
        blur_sigma: range of the blur's standard deviation, pixels (DeiT III: 0.1 to 2 at 224 pixels).
        color_jitter: largest relative change s of brightness, contrast and saturation, each uniform in
            [max(0, 1 - s), 1 + s], in random order (DeiT III: 0.3).
        random_erasing: probability of covering a rectangle of 2% to 33% of the area by noise (Zhong et al.).
        crop_scale: range of the area of random-resized crops, as a share of the image's; sets that are read from disk
            are cropped as they are read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    crop_padding: int = Field(default=0, ge=0)
    horizontal_flip: float = Field(default=0.0, ge=0.0, le=1.0)
    rand_augment: str | None = None
    three_augment: bool = False
    blur_sigma: tuple[float, float] = (0.1, 2.0)
    color_jitter: float = Field(default=0.0, ge=0.0)
    random_erasing: float = Field(default=0.0, ge=0.0, le=1.0)
    crop_scale: tuple[float, float] = (0.08, 1.0)

    @field_validator("rand_augment")
    @classmethod
    def _timm_reads_it(cls, text: str | None) -> str | None:
        if text is not None:
            policy(text, 224, (0, 0, 0))
        return text

    @field_validator("crop_scale")
    @classmethod
    def _a_share(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError(f"crop_scale {scale} is not a range of shares; use one like [0.08, 1.0]")
        return scale

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Augments a batch.

        Args:
            images: uint8 [B, 3, H, W], left unchanged: the rows that `draws` hands out numbers for.
            draws: the batch's random numbers.

        Returns:
            uint8 [B, 3, H, W] on the same device.
        """
        if self.crop_padding:
            images = random_crop(images, self.crop_padding, draws)
        if self.horizontal_flip:
            images = random_flip(images, self.horizontal_flip, draws)
        if self.rand_augment is not None:
            seeds = draws.integers(2**62)
            images = rand_augment(images, self.rand_augment, IMAGENET_MEAN, seeds).to(images.device)
        if self.three_augment:
            images = three_augment(images, self.blur_sigma, draws)
        if self.color_jitter:
            images = color_jitter(images, self.color_jitter, draws)
        if self.random_erasing:
            images = random_erasing(images, self.random_erasing, draws)
        return images


def normalise(images: Tensor, mean: Colour, std: Colour, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 [B, 3, H, W] to (image / 255 - mean) / std, in `dtype`."""
    scale = torch.tensor([1 / (255 * s) for s in std], device=images.device).view(1, 3, 1, 1)
    shift = torch.tensor([-m / s for m, s in zip(mean, std, strict=True)], device=images.device).view(1, 3, 1, 1)
    values = images.to(torch.float32, copy=True)
    return torch.addcmul(shift, values, scale, out=values).to(dtype)


def random_crop(images: Tensor, padding: int, draws: Draws) -> Tensor:
    """Cuts a window of the old size out of each image after padding it by reflection."""
    height, width = images.shape[-2:]
    if padding >= min(height, width):
        raise ValueError(f"crop_padding {padding} must be smaller than the image, {height}x{width}")
    offsets = draws.integers(2 * padding + 1, 2).to(images.device)
    rows = _reflect(torch.arange(height, device=images.device) + offsets[0, :, None] - padding, height)
    columns = _reflect(torch.arange(width, device=images.device) + offsets[1, :, None] - padding, width)
    images = images.gather(2, rows[:, None, :, None].expand_as(images))
    return images.gather(3, columns[:, None, None, :].expand_as(images))


def random_flip(images: Tensor, probability: float, draws: Draws) -> Tensor:
    """Mirrors each image left and right with a probability."""
    return torch.where(_chosen(images, probability, draws), images.flip(-1), images)


def three_augment(images: Tensor, blur_sigma: tuple[float, float], draws: Draws) -> Tensor:
    """Grey, solarise (invert from 128 up) or Gaussian blur, one third each: DeiT III, section 3.2."""
    choice = draws.integers(3).to(images.device)
    sigma = draws.uniform(*blur_sigma).to(images.device)
    out = images.clone()
    grey, solar, blur = (torch.nonzero(choice == kind).flatten() for kind in range(3))
    out[grey] = _to_bytes(_luma(images[grey].float())).expand(-1, 3, -1, -1)
    out[solar] = torch.where(images[solar] < 128, images[solar], 255 - images[solar])
    if len(blur):
        out[blur] = gaussian_blur(images[blur], sigma[blur], blur_sigma[1])
    return out


def gaussian_blur(images: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Blurs each image of a uint8 batch by its own standard deviation [B] (at most `largest`), edges repeated."""
    batch, channels, height, width = images.shape
    radius = max(1, round(3 * largest))
    distance = torch.arange(-radius, radius + 1, device=images.device, dtype=torch.float32)
    kernel = torch.softmax(-0.5 * (distance / sigma[:, None]) ** 2, dim=1).repeat_interleave(channels, 0)[:, None]
    planes = images.float().reshape(1, batch * channels, height, width)
    planes = F.pad(planes, (radius, radius, radius, radius), mode="replicate")
    planes = F.conv2d(planes, kernel[:, :, None, :], groups=batch * channels)
    planes = F.conv2d(planes, kernel[:, :, :, None], groups=batch * channels)
    return _to_bytes(planes).reshape(images.shape)


def color_jitter(images: Tensor, strength: float, draws: Draws) -> Tensor:
    """Changes brightness, contrast and saturation of each image by random factors in random order."""
    factors = draws.uniform(max(0.0, 1 - strength), 1 + strength, 3).to(images.device)
    order = draws.uniform(0, 1, 3).argsort(dim=0).to(images.device)
    out = torch.empty_like(images)
    for rows in _tiles(images):
        out[rows] = _jitter(images[rows].float(), factors[:, rows], order[:, rows])
    return out


def _jitter(values: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Moves values [B, 3, H, W], in place, from black, their mean grey or their own grey by factors [3, B]."""
    for kind in order[..., None, None]:
        factor = factors.gather(0, kind[None, :, 0, 0])[0][:, None, None]
        grey = _luma(values)[:, 0]
        base = grey.mul(kind == 2).add_(grey.mean(dim=(1, 2), keepdim=True) * (kind == 1)).mul_(1 - factor)
        values.mul_(factor[:, None]).add_(base[:, None]).clamp_(0, 255)
    return values.round_().to(torch.uint8)


def _tiles(images: Tensor) -> list[slice]:
    """Runs of images that together stay in a core's cache; on a GPU, all of them."""
    rows = max(1, 2**18 // images[0].numel()) if images.device.type == "cpu" else len(images)
    return [slice(start, start + rows) for start in range(0, len(images), rows)]


def random_erasing(images: Tensor, probability: float, draws: Draws) -> Tensor:
    """Covers one rectangle of some images by noise of the spread of photographs (mean 0.45, deviation 0.225 of 255)."""
    height, width = images.shape[-2:]
    erase = _chosen(images, probability, draws)
    area = draws.uniform(0.02, 1 / 3) * height * width
    ratio = draws.uniform(-1, 1).mul(torch.tensor(1 / 0.3).log()).exp()
    h = (area * ratio).sqrt().round().clamp(1, height)
    w = (area / ratio).sqrt().round().clamp(1, width)
    place = draws.uniform(0, 1, 2)
    top, left = (place[0] * (height - h + 1)).floor(), (place[1] * (width - w + 1)).floor()
    noise = _noise(images.shape, draws.integers(2**62), erase.flatten()).mul_(0.225 * 255).add_(0.45 * 255)
    row, column = torch.arange(height)[None, :, None], torch.arange(width)[None, None, :]
    top, left, h, w = (value[:, None, None] for value in (top, left, h, w))
    inside = ((row >= top) & (row < top + h) & (column >= left) & (column < left + w))[:, None].to(images.device)
    return torch.where(erase & inside, _to_bytes(noise).to(images.device), images)


def _noise(shape: torch.Size, seeds: Tensor, wanted: Tensor) -> Tensor:
    """Standard normal numbers in the wanted rows, each row from its own seed; zero elsewhere."""
    noise = torch.zeros(shape)
    for row in torch.nonzero(wanted.cpu()).flatten().tolist():
        noise[row].normal_(generator=Generator().manual_seed(int(seeds[row])))
    return noise


def _chosen(images: Tensor, probability: float, draws: Draws) -> Tensor:
    return (draws.uniform(0, 1) < probability).to(images.device)[:, None, None, None]


def _reflect(position: Tensor, size: int) -> Tensor:
    position = position.abs()
    return torch.where(position < size, position, 2 * (size - 1) - position)


def _luma(values: Tensor) -> Tensor:
    red, green, blue = values.unbind(1)
    return (red * _GREY[0]).add_(green, alpha=_GREY[1]).add_(blue, alpha=_GREY[2])[:, None]


def _to_bytes(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)
