"""Classes of every pixel of a user's own images: pictures, label files and a table."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from patchscale.data import normalise
from patchscale.data.decode import FILTERS, image_files, open_image
from patchscale.data.masks import check_shape, covering
from patchscale.files import write_bytes
from patchscale.tasks.segmentation.inference import logits_at
from patchscale.tasks.segmentation.options import Options
from patchscale.tasks.segmentation.pictures import label_png, overlay_png, palette
from patchscale.tasks.task import Predicted, Trained

COLUMNS = ("image", "class", "pixels", "share")
NAMED = 3
"""Classes of an image that its line names."""


@torch.no_grad()
def predict(trained: Trained, paths: list[Path], out: Path, device: torch.device) -> Predicted:
    """Writes two files for every image, at its own size: the classes drawn over it, and the labels themselves.

    `<number>_<name>.png` is for the eye; `<number>_<name>_labels.png` is a palette image whose values are the classes.

    Args:
        trained: a segmenter in evaluation mode and what goes with it.
        paths: image files or folders of images.
        out: an existing folder.
        device: where the model is.

    Raises:
        InputError: nothing to read at a path, a file that is not a whole image, or one that is too slender.
    """
    options = Options.model_validate(trained.options)
    colours, rows, lines = palette(len(trained.classes)), [], []
    for number, file in enumerate(image_files(paths), start=1):
        image = open_image(file.read_bytes(), str(file))
        size = (image.height, image.width)
        check_shape(size, trained.spec.input_size, str(file))
        height, width = covering(size, trained.spec.input_size)
        seen = np.asarray(image.resize((width, height), FILTERS[trained.data.resample]))
        pixels = torch.from_numpy(seen.copy()).permute(2, 0, 1)[None].to(device)
        inputs = normalise(pixels, trained.mean, trained.std)
        logits = logits_at(trained.model, inputs, contextlib.nullcontext, size, options.inference, options.slide_step)
        labels = logits.argmax(1)[0].cpu().numpy().astype(np.uint8)
        write_bytes(out / f"{number}_{file.stem}.png", overlay_png(np.asarray(image), labels, colours))
        write_bytes(out / f"{number}_{file.stem}_labels.png", label_png(labels, colours))
        found = _shares(labels, trained.classes)
        rows += [{"image": str(file), **row} for row in found]
        named = ", ".join(f"{row['class']} {100 * row['share']:.0f} %" for row in found[:NAMED])
        lines.append(f"{file}: {named}{', ...' if len(found) > NAMED else ''}")
    return Predicted(COLUMNS, rows, [*lines, f"labels and pictures: {out}"])


def _shares(labels: np.ndarray, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Classes that occur, those with most pixels first."""
    counts = np.bincount(labels.ravel(), minlength=len(classes))
    order = [index for index in np.argsort(-counts, kind="stable").tolist() if counts[index]]
    return [
        {"class": classes[index], "pixels": int(counts[index]), "share": counts[index] / labels.size} for index in order
    ]
