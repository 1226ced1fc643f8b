"""Answers about a user's own images at every n, of trained weights; patch-text maps where they are contrastive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from patchscale.data import DataSpec, normalise
from patchscale.data.captions import Speller, load_captions, read_exchanges, words
from patchscale.data.decode import centre_view, image_files, open_image
from patchscale.errors import InputError
from patchscale.files import write_bytes
from patchscale.tasks.captioning.asking import ALONE
from patchscale.tasks.captioning.maps import map_picture, patch_text_maps
from patchscale.tasks.captioning.options import Options
from patchscale.tasks.captioning.saying import say_of_one
from patchscale.tasks.captioning.text import HubSpeller, Spelled, Spelling, Turn, spell
from patchscale.tasks.pictures import png
from patchscale.tasks.task import Predicted, Trained

COLUMNS = ("image", "question", "vision_tokens", "answer")


@torch.no_grad()
def predict(trained: Trained, paths: list[Path], out: Path, device: torch.device) -> Predicted:
    """Answers to each question about each image, at every n that the model was trained for.

    Weights of the contrastive stage answer nothing: for a JSONL file they draw where in the image the answer of each
    line is, `<number>_<name>.png`.

    Args:
        trained: a vision-language model in evaluation mode and what goes with it.
        paths: JSONL files of lines {"image", "question", "answer"} (the answer may be ""), or image files and folders,
            whose images are asked what the training set asks about whole images.
        out: an existing folder.
        device: where the model is.

    Raises:
        InputError: nothing to read at a path, a file that is not a whole image, or no question to ask.
    """
    options = Options.model_validate(trained.options)
    spelling = Speller(trained.classes) if options.backbone is None else HubSpeller(options.backbone)
    height, width = trained.spec.input_size
    rows, columns = options.views or (1, 1)
    size = (rows * height, columns * width)
    found, lines = [], []
    for number, (file, question, answer) in enumerate(_questions(trained.data, paths, size), start=1):
        view = centre_view(open_image(file.read_bytes(), str(file)), size, trained.data.resample)
        inputs = normalise(torch.from_numpy(view)[None].to(device), trained.mean, trained.std)
        if options.objective == "contrastive":
            _draw(trained, spelling, inputs, view, (question, answer), out / f"{number}_{file.stem}.png")
            found.append({"image": str(file), "question": question, "vision_tokens": None, "answer": answer})
            lines.append(f"{file}: where {answer!r} is: {out / f'{number}_{file.stem}.png'}")
            continue
        model = trained.model
        said = say_of_one(model, inputs, spelling.encode(question), spelling, options.counts)  # pyright: ignore
        found += [
            {"image": str(file), "question": question, "vision_tokens": count, "answer": text}
            for count, text in zip(options.counts, said, strict=True)
        ]
        lines.append(f"{file}: {question}? {said[-1]} (n = {options.counts[-1]})")
    return Predicted(COLUMNS, found, lines)


def _questions(data: DataSpec, paths: list[Path], size: tuple[int, int]) -> list[tuple[Path, str, str]]:
    """Image, question and answer, line by line."""
    found, images = [], []
    for path in paths:
        if path.suffix != ".jsonl":
            images.append(path)
            continue
        found += [(image, exchange.question, exchange.answers[0]) for image, exchange in read_exchanges(path)]
    if images:
        question = _whole_image_question(data, size)
        found += [(file, question, "") for file in image_files(images)]
    return found


def _whole_image_question(data: DataSpec, size: tuple[int, int]) -> str:
    """What the set that the model was trained on asks about whole images.

    Raises:
        InputError: it asks nothing of the kind, or is not on this machine.
    """
    hint = 'give a JSONL file of lines {"image": ..., "question": ..., "answer": ""} instead of images'
    try:
        one = load_captions(data.model_copy(update={"test_size": 1, "limit_test": 1}), "test", size)
    except InputError as error:
        raise InputError(f"{error}; to predict without it, {hint}") from error
    for exchange in one.exchanges[0]:
        if exchange.kind in ALONE:
            return exchange.question
    raise InputError(f"{data.name} asks nothing about whole images; {hint}")


def _draw(
    trained: Trained,
    spelling: Spelling,
    inputs: torch.Tensor,
    view: np.ndarray,
    turn: tuple[str, str],
    file: Path,
) -> None:
    """The patch-text map of an answer."""
    question, answer = turn
    if not words(answer):
        raise InputError(f"{file.stem}: weights of the contrastive stage need an answer to look for; give a JSONL file")
    spelled = spell([[Turn(spelling.encode(question), [*spelling.encode(answer), spelling.end])]])
    text = Spelled(*(part.to(inputs.device) for part in spelled))
    cosines = patch_text_maps(trained.model, inputs, text)  # pyright: ignore[reportArgumentType]
    write_bytes(file, png(map_picture(view, cosines[0].cpu().numpy())))
