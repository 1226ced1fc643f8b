"""From encoded bytes to uint8 pixels at one size; an unreadable image is an error that names it.

Orientation tags are not applied, which is the habit of the common ImageNet loaders.
"""

from __future__ import annotations

import io
import math
import os
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from patchscale.data._random import below, draw, unit
from patchscale.errors import InputError

FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff", ".gif")


def is_image_name(name: str) -> bool:
    """True if `name` ends like an image file and is not a hidden file."""
    return name.lower().endswith(IMAGE_ENDINGS) and not os.path.basename(name).startswith(".")


def image_files(paths: list[Path]) -> list[Path]:
    """The paths, with every folder replaced by the image files in it, in sorted order.

    Raises:
        InputError: nothing at a path, or no image in a folder.
    """
    files = []
    for path in paths:
        if path.is_dir():
            found = sorted(file for file in path.rglob("*") if is_image_name(file.name))
            if not found:
                raise InputError(f"no images in {path}; give a folder that holds image files")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"no image at {path}")
    return files


def open_image(content: bytes, name: str, *, skippable: bool = False) -> Image.Image:
    """Decodes an image to mode RGB.

    Args:
        content: the encoded file.
        name: what to call it in an error.
        skippable: whether the error may advise to set `bad_images`, which not every reader honours.

    Raises:
        InputError: it is not an image, or it is truncated or damaged.
    """
    try:
        image = Image.open(io.BytesIO(content))
        image.load()
        return _to_rgb(image)
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError) as error:
        reason = "not an image that Pillow knows" if isinstance(error, Image.UnidentifiedImageError) else str(error)
        skip = ', or set bad_images to "skip" to leave such files out and count them' if skippable else ""
        raise InputError(
            f"cannot read the image {name}: {reason or type(error).__name__}; replace or remove it{skip}"
        ) from error


def centre_view(image: Image.Image, size: tuple[int, int], resample: str, crop: float = 1.0) -> np.ndarray:
    """The centre of an image at `size`, aspect ratio kept.

    Args:
        image: mode RGB.
        size: (H, W).
        resample: "bicubic" or "bilinear"; both with antialiasing.
        crop: share of the largest centred H:W rectangle that is kept.

    Returns:
        uint8 [3, H, W].
    """
    height, width = size
    scale = min(image.width / width, image.height / height) * crop
    box_width, box_height = width * scale, height * scale
    left, top = (image.width - box_width) / 2, (image.height - box_height) / 2
    return _cut(image, (left, top, left + box_width, top + box_height), size, resample)


def random_resized_crop(
    image: Image.Image, size: tuple[int, int], resample: str, scale: tuple[float, float], *keys: int
) -> np.ndarray:
    """A random part of an image at `size`: a pure function of `keys` and the image.

    Area uniform in `scale` times the image's (8% to 100% in most recipes), aspect ratio 3/4 to 4/3 times that of
    `size`, ten attempts, then the test view: Szegedy et al., "Going deeper with convolutions", as in torchvision and
    timm.

    Returns:
        uint8 [3, H, W].
    """
    height, width = size
    for attempt in range(10):
        bits = draw(*keys, attempt, np.arange(4))
        area_share, aspect = (float(value) for value in unit(bits[:2]))
        area = image.width * image.height * (scale[0] + (scale[1] - scale[0]) * area_share)
        ratio = width / height * math.exp((2 * aspect - 1) * math.log(4 / 3))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= image.width and 0 < h <= image.height:
            left = int(below(bits[2:3], image.width - w + 1)[0])
            top = int(below(bits[3:], image.height - h + 1)[0])
            return _cut(image, (left, top, left + w, top + h), size, resample)
    return centre_view(image, size, resample)


def worker_threads() -> int:
    """Threads for decoding: `PATCHSCALE_THREADS`, or the cores this process may use, at most 16."""
    named = os.environ.get("PATCHSCALE_THREADS")
    if named is not None:
        if not named.isdigit() or int(named) < 1:
            raise InputError(f"PATCHSCALE_THREADS is {named!r}; set it to a whole number of at least 1")
        return int(named)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 16)


def _cut(
    image: Image.Image, box: tuple[float, float, float, float], size: tuple[int, int], resample: str
) -> np.ndarray:
    height, width = size
    if box != (0, 0, image.width, image.height) or image.size != (width, height):
        image = image.resize((width, height), FILTERS[resample], box=box)
    return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16") or image.mode == "I":
        return Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")
