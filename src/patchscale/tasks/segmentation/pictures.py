"""What a model sees and says, as files: a few test images with truth and prediction, and how every class was found.

`predictions/` of a trial holds `index.json` and PNG files: images as RGB, labels as palette images whose values are the
classes (255: not counted). Shape letters: K classes, H height, W width.
"""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from patchscale.data.masks import IGNORED
from patchscale.files import write_bytes, write_json
from patchscale.tasks.pictures import png, shown
from patchscale.tasks.segmentation.confusion import class_scores
from patchscale.tasks.task import Autocast


def palette(classes: int) -> np.ndarray:
    """uint8 [256, 3]: a colour for each class, hues by the golden ratio so that neighbours differ; 255 is black."""
    colours = np.zeros((256, 3), dtype=np.uint8)
    for number in range(classes):
        hue, value = (number * 0.618034) % 1.0, (0.95, 0.75, 0.55)[number % 3]
        colours[number] = [round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.65, value)]
    return colours


def label_png(labels: np.ndarray, colours: np.ndarray) -> bytes:
    """Labels uint8 [H, W] as a palette PNG: the values are the classes, the colours are for the eye."""
    image = Image.fromarray(labels)
    image.putpalette(colours.tobytes())
    return png(image)


def overlay_png(image: np.ndarray, labels: np.ndarray, colours: np.ndarray, opacity: float = 0.5) -> bytes:
    """Labels uint8 [H, W] drawn over an image uint8 [H, W, 3]; pixels that are not counted keep the image's colour."""
    drawn = image * (1 - opacity) + colours[labels] * opacity
    drawn = np.where((labels == IGNORED)[..., None], image, drawn)
    return png(Image.fromarray(drawn.round().astype(np.uint8)))


def write_predictions(
    task: Any, model: nn.Module, device: torch.device, autocast: Autocast, folder: Path, table: Tensor
) -> None:
    """Writes the folder that the module's head describes, for a `Segmentation`, its model and its confusion table."""
    folder.mkdir(parents=True, exist_ok=True)
    was_training = model.training
    model.eval()
    with torch.no_grad():
        colours = palette(len(task.classes))
        images = []
        for index in shown(task.test_size):
            image, truth = task.test_set.test_view(index, original=False)
            logits = task.logits(model, image, device, autocast, truth.shape)
            predicted = logits.argmax(1)[0].cpu().numpy().astype(np.uint8)
            parts = {
                "image": png(Image.fromarray(image)),
                "truth": label_png(truth, colours),
                "prediction": label_png(predicted, colours),
            }
            names = {part: f"{index}_{part}.png" for part in parts}
            for part, content in parts.items():
                write_bytes(folder / names[part], content)
            images.append({"index": index, **names})
    model.train(was_training)
    rows = [
        {"class": name, "colour": colour, **score._asdict()}
        for name, colour, score in zip(task.classes, colours.tolist(), class_scores(table), strict=False)
    ]
    write_json(folder / "index.json", {"kind": "segmentation", "images": images, "classes": rows})
