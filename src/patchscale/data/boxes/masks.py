"""Masks as COCO files hold them: polygons, run lengths as a list, run lengths packed into a string.

Every kind becomes pycocotools' packed form after a check, because pycocotools trusts what it is given.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from pycocotools import mask as _coco_mask

from patchscale.errors import InputError

Rle = dict[str, Any]
coco_mask: Any = _coco_mask  # its published types know nothing of plain dictionaries


def encode(mask: np.ndarray) -> Rle:
    """The packed run lengths of a mask [H, W] of zeros and ones."""
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))


def decode(masks: list[Rle] | tuple[Rle, ...], size: tuple[int, int]) -> np.ndarray:
    """uint8 [n, H, W], 0 or 1."""
    height, width = size
    out = np.empty((len(masks), width, height), dtype=np.uint8)
    for place, mask in enumerate(masks):
        runs = run_lengths(mask["counts"].decode("ascii"))
        out[place] = np.repeat((np.arange(len(runs)) & 1).astype(np.uint8), runs).reshape(width, height)
    return out.transpose(0, 2, 1)


def area(mask: Rle) -> float:
    """Pixels of a packed mask."""
    return float(coco_mask.area(mask))


def tight_box(mask: Rle) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 around a packed mask; x1 and y1 are behind the last pixel."""
    x, y, width, height = coco_mask.toBbox(mask).tolist()
    return x, y, x + width, y + height


def pack(segmentation: Any, size: tuple[int, int]) -> Rle:
    """Checks a COCO `segmentation` and packs it.

    Args:
        segmentation: polygons [[x, y, x, y, ...], ...], or {"size": [H, W], "counts": list or string}.
        size: (H, W) of the image.

    Raises:
        InputError: it is none of these, does not fit the image, or covers nothing; says which.
    """
    packed = _from_runs(segmentation, size) if isinstance(segmentation, dict) else _from_polygons(segmentation, size)
    if not area(packed):
        raise InputError("its mask covers no pixel")
    return packed


def disagreement(mask: Rle, box: tuple[float, float, float, float]) -> str:
    """What is wrong if a mask lies elsewhere than its box: an overlap (IoU) under one half and sides 2 pixels off."""
    found = tight_box(mask)
    if max(abs(a - b) for a, b in zip(found, box, strict=True)) <= 2:
        return ""
    inner = [max(found[0], box[0]), max(found[1], box[1]), min(found[2], box[2]), min(found[3], box[3])]
    shared = max(0.0, inner[2] - inner[0]) * max(0.0, inner[3] - inner[1])
    both = sum((b[2] - b[0]) * (b[3] - b[1]) for b in (found, box)) - shared
    if shared >= both / 2:
        return ""
    return (
        f"its mask spans x {found[0]:g} to {found[2]:g}, y {found[1]:g} to {found[3]:g}, but its box "
        f"x {box[0]:g} to {box[2]:g}, y {box[1]:g} to {box[3]:g}"
    )


def run_lengths(counts: str) -> np.ndarray:
    """The run lengths in a packed string, int64 [runs], zeros first.

    Five bits a character, the sixth says that the number goes on; from the fourth number on, the difference to the
    number before the last.

    Raises:
        InputError: the string ends within a number or holds a character outside the code.
    """
    bits = np.frombuffer(counts.encode("latin-1", errors="replace"), dtype=np.uint8).astype(np.int64) - 48
    if (bits < 0).any() or (bits > 63).any():
        raise InputError("its run lengths hold a character that the code does not have")
    last = (bits & 32) == 0
    if not last.size or not last[-1]:
        raise InputError("its run lengths end in the middle of a number")
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts > 8).any():
        raise InputError("its run lengths hold a number that no image is large enough for")
    shift = 5 * (np.arange(len(bits)) - np.repeat(starts, ends - starts + 1))
    values = np.add.reduceat((bits & 31) << shift, starts)
    values -= np.where(bits[ends] & 16, 1 << (shift[ends] + 5), 0)
    values[1::2] = values[1::2].cumsum()
    values[2::2] = values[2::2].cumsum()
    return values


def _from_runs(segmentation: dict[str, Any], size: tuple[int, int]) -> Rle:
    counts, stated = segmentation.get("counts"), segmentation.get("size")
    if not isinstance(counts, list | str | bytes) or not isinstance(stated, list | tuple) or len(stated) != 2:
        raise InputError("its run-length mask needs size [height, width] and counts")
    if tuple(stated) != size:
        raise InputError(f"its mask is {stated[0]}x{stated[1]}, its image {size[0]}x{size[1]} (height x width)")
    if isinstance(counts, bytes):
        counts = counts.decode("ascii", errors="replace")
    runs = run_lengths(counts).tolist() if isinstance(counts, str) else counts
    if not all(isinstance(run, int) and run >= 0 for run in runs) or sum(runs) != size[0] * size[1]:
        raise InputError(
            f"its run lengths do not add up to the {size[0] * size[1]} pixels of its {size[0]}x{size[1]} image"
        )
    if isinstance(counts, str):
        return {"size": list(size), "counts": counts.encode("ascii")}
    return coco_mask.frPyObjects({"size": list(size), "counts": runs}, *size)


def _from_polygons(segmentation: Any, size: tuple[int, int]) -> Rle:
    if not isinstance(segmentation, list) or not segmentation:
        raise InputError("its segmentation is neither polygons nor run lengths")
    for polygon in segmentation:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            raise InputError("a polygon of its mask needs at least three points, x and y each")
        if not all(isinstance(value, int | float) and math.isfinite(value) for value in polygon):
            raise InputError("a polygon of its mask holds a value that is not a finite number")
        if max(map(abs, polygon)) > 2 * max(size):
            raise InputError("a polygon of its mask lies far outside its image")
    return coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
