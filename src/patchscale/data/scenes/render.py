"""From a layout to pixels, in integer arithmetic: equal bytes on every machine.

Every pixel is the rounded mean of S x S point samples, so detail finer than a pixel averages away as it does in a
camera; the pixel's owner is whatever covers most of its samples. Shape letters: H height, W width.
"""

from __future__ import annotations

import numpy as np

from patchscale.data._random import draw
from patchscale.data.scenes.layout import UNITS, Layout, SceneObject, inside
from patchscale.data.scenes.vocabulary import COLOUR_NAMES, COLOURS, TEXTURES


def render(layout: Layout, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws a scene.

    Args:
        layout: what is where.
        height: H, pixels.
        width: W, pixels.

    Returns:
        image uint8 [H, W, 3] and owners uint8 [H, W]: 0 ground, k the k-th object of the layout (from 1).
    """
    picture, owners, samples = _sampled(layout, height, width)
    return _mean(picture, samples), _majority(owners, samples, len(layout.objects))


def render_image(layout: Layout, height: int, width: int) -> np.ndarray:
    """The image of `render` alone, in about half the time."""
    picture, _, samples = _sampled(layout, height, width)
    return _mean(picture, samples)


def _sampled(layout: Layout, height: int, width: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Colours uint8 [H S, W S, 3] and owners uint8 [H S, W S] of the point samples, and S."""
    samples = 4 if min(height, width) <= 96 else 2
    rows = _sample_points(height * samples, layout.height)
    columns = _sample_points(width * samples, layout.width)
    picture = np.repeat(_ground(layout, rows, columns)[:, :, None], 3, axis=2)
    owners = np.zeros(picture.shape[:2], dtype=np.uint8)
    for number, item in enumerate(layout.objects, start=1):
        reach = item.radius + item.radius // 4
        top, bottom = np.searchsorted(rows, (item.row - reach, item.row + reach))
        left, right = np.searchsorted(columns, (item.column - reach, item.column + reach))
        region = (slice(int(top), int(bottom)), slice(int(left), int(right)))
        covered = inside(item, rows[region[0]], columns[region[1]])
        picture[region][covered] = _paint(item, rows[region[0]], columns[region[1]])[covered]
        owners[region][covered] = number
    return picture, owners, samples


def texture(kind: str, rows: np.ndarray, columns: np.ndarray, period: int) -> np.ndarray:
    """Where a texture is light.

    Args:
        kind: one of `TEXTURES`.
        rows: int64 [h], units.
        columns: int64 [w], units.
        period: units.

    Returns:
        bool [h, w].
    """
    y, x = (rows % period)[:, None], (columns % period)[None, :]
    half = period // 2
    flat = np.zeros((len(rows), len(columns)), dtype=bool)
    if kind == "plain":
        return ~flat
    if kind == "horizontally striped":
        return (y < half) | flat
    if kind == "vertically striped":
        return (x < half) | flat
    if kind == "checked":
        return (y < half) ^ (x < half)
    assert kind == "dotted"
    return (y - half) ** 2 + (x - half) ** 2 < (period * 3 // 8) ** 2


def _sample_points(count: int, units: int) -> np.ndarray:
    return (2 * np.arange(count, dtype=np.int64) + 1) * units // (2 * count)


def _paint(item: SceneObject, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """uint8 [h, w, 3] of an object's colour in the two tones of its texture."""
    light = np.array(COLOURS[COLOUR_NAMES[item.colour]], dtype=np.int64)
    pattern = texture(TEXTURES[item.texture], rows + item.phase[0], columns + item.phase[1], item.period)
    return np.where(pattern[:, :, None], light, light * 9 // 16).astype(np.uint8)


def _ground(layout: Layout, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Grey uint8 [h, w]: a level, blotches at two scales, and a texture of the objects' kinds."""
    level = np.full((len(rows), len(columns)), 168 if layout.ground_light else 72, dtype=np.int64)
    level += _blotches(layout.noise_key, rows, columns, UNITS // 3) * 24 // 256 - 12
    level += _blotches(layout.noise_key + 1, rows, columns, UNITS // 14) * 20 // 256 - 10
    pattern = texture(TEXTURES[layout.ground_texture], rows, columns, layout.ground_period)
    return (level + np.where(pattern, 14, -14)).astype(np.uint8)


def _blotches(key: int, rows: np.ndarray, columns: np.ndarray, cell: int) -> np.ndarray:
    """Smooth noise 0..255, int64 [h, w]: random values on a lattice, interpolated in fixed point."""
    lattice_rows, lattice_columns = np.arange(int(rows[-1]) // cell + 2), np.arange(int(columns[-1]) // cell + 2)
    values = (draw(key, lattice_rows[:, None], lattice_columns[None, :]) >> np.uint64(56)).astype(np.int64)
    r, c = rows // cell, columns // cell
    down, right = (rows % cell)[:, None], (columns % cell)[None, :]
    across = values[:, c] * (cell - right) + values[:, c + 1] * right
    return (across[r] * (cell - down) + across[r + 1] * down) // (cell * cell)


def _mean(picture: np.ndarray, samples: int) -> np.ndarray:
    height, width = picture.shape[0] // samples, picture.shape[1] // samples
    wide = _sum(picture.reshape(height, samples, -1).astype(np.uint16))
    total = _sum(wide.reshape(height * width, samples, 3)).reshape(height, width, 3)
    return ((total + samples**2 // 2) // samples**2).astype(np.uint8)


def _sum(values: np.ndarray) -> np.ndarray:
    """Over the second axis, which is short: quicker than numpy's own."""
    total = values[:, 0].copy()
    for place in range(1, values.shape[1]):
        total += values[:, place]
    return total


def _majority(owners: np.ndarray, samples: int, count: int) -> np.ndarray:
    height, width = owners.shape[0] // samples, owners.shape[1] // samples
    blocks = owners.reshape(height, samples, width, samples)
    votes = np.stack([(blocks == number).sum(axis=(1, 3)) for number in range(count + 1)])
    return votes.argmax(axis=0).astype(np.uint8)
