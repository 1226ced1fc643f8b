"""What a finished trial shows: test images with questions, true answers, and what the model says at every n.

`predictions/` of a trial holds PNG files and `index.json` with `kind`, `counts` (the n), and `images`: each with the
file of the image and `asked`, a list of kind, question, truth, said and right (one for every n). In the contrastive
stage, which answers nothing, it is `map` instead: the file of the patch-text map of the first answer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from patchscale.data.captions import words
from patchscale.files import write_bytes, write_json
from patchscale.tasks.captioning.maps import map_picture, patch_text_maps
from patchscale.tasks.captioning.measuring import Examination
from patchscale.tasks.captioning.model import VisionLanguageModel
from patchscale.tasks.captioning.saying import say_of_one
from patchscale.tasks.captioning.text import Spelled, spell
from patchscale.tasks.pictures import png, shown
from patchscale.tasks.task import Autocast

ASKED = 4
"""Questions about each of them, at most."""


@torch.no_grad()
def write_examples(
    examination: Examination, model: VisionLanguageModel, device: torch.device, autocast: Autocast, folder: Path
) -> None:
    """Writes the folder that the module's head describes."""
    folder.mkdir(parents=True, exist_ok=True)
    was_training = model.training
    model.eval()
    images = []
    for index in shown(len(examination.test_set)):
        pixels = examination.test_set.read([index])[0].numpy()
        name = f"{index}_image.png"
        write_bytes(folder / name, png(Image.fromarray(pixels.transpose(1, 2, 0))))
        inputs = examination.inputs([index], device)
        with autocast():
            if model.options.objective == "contrastive":
                found = _map(examination, model, inputs, index, pixels, folder)
            else:
                found = {"asked": _asked(examination, model, inputs, index)}
        images.append({"index": index, "image": name, **found})
    model.train(was_training)
    write_json(folder / "index.json", {"kind": "captioning", "counts": list(examination.counts), "images": images})


def _asked(
    examination: Examination, model: VisionLanguageModel, inputs: torch.Tensor, index: int
) -> list[dict[str, Any]]:
    asking, rows = examination.asking, []
    numbers = dict.fromkeys(number for _, number, _ in examination.places([index]))
    for number in list(numbers)[:ASKED]:
        exchange = examination.test_set.exchanges[index][number]
        question = asking.turn(exchange, 0).question
        said = say_of_one(model, inputs, question, asking.spelling, examination.counts)
        right = [any(words(text) == words(answer) for answer in exchange.answers) for text in said]
        truth = exchange.answers[0]
        rows.append(
            {"kind": exchange.kind, "question": exchange.question, "truth": truth, "said": said, "right": right}
        )
    return rows


def _map(
    examination: Examination,
    model: VisionLanguageModel,
    inputs: torch.Tensor,
    index: int,
    pixels: np.ndarray,
    folder: Path,
) -> dict[str, Any]:
    """The patch-text map of the first answer."""
    exchange = examination.test_set.exchanges[index][0]
    text = Spelled(*(part.to(inputs.device) for part in spell([[examination.asking.turn(exchange, 0)]])))
    cosines = patch_text_maps(model, inputs, text)[0].cpu().numpy()
    name = f"{index}_map.png"
    write_bytes(folder / name, png(map_picture(pixels, cosines)))
    return {"map": name, "question": exchange.question, "truth": exchange.answers[0]}
