"""Trained weights at work: scores on a data set, and classes of a user's own images."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch

from patchscale.data import normalise
from patchscale.data.decode import centre_view, is_image_name, open_image
from patchscale.errors import InputError
from patchscale.tasks import Regularisation, build_task, evaluate
from patchscale.training.machine import default_device
from patchscale.training.weights import load_weights


def evaluate_weights(weights: Path, data: str | None = None) -> dict[str, float]:
    """Scores in float32 of trained weights on the test split of `data`, or of the set they were trained on.

    Raises:
        InputError: the classes of `data` are not those of the weights.
    """
    trained = load_weights(weights)
    spec = trained.config.data
    if data is not None:
        spec = spec.model_copy(update={"name": data, "root": None, "limit_train": None, "limit_test": None})
    config = trained.config
    task = build_task(config.task, config.model, spec, config.task_options, Regularisation())
    if task.classes != trained.classes:
        raise InputError(f"{spec.name} has classes {_few(task.classes)}, the weights know {_few(trained.classes)}")
    task.mean, task.std = trained.mean, trained.std
    device = default_device()
    return evaluate(task, trained.model.to(device), device, contextlib.nullcontext)


@torch.no_grad()
def predict_images(paths: list[Path], weights: Path, *, top: int = 5) -> list[dict[str, Any]]:
    """The `top` most probable classes of each image: rows of image, rank, class, probability.

    Raises:
        InputError: nothing to read at a path, or a file that is not a whole image.
    """
    trained = load_weights(weights)
    config, rows = trained.config, []
    for file in _image_files(paths):
        view = centre_view(
            open_image(file.read_bytes(), str(file)),
            config.model.input_size,
            config.data.resample,
            config.data.test_crop,
        )
        logits = trained.model(normalise(torch.from_numpy(view)[None], trained.mean, trained.std))[0]
        best = logits.float().softmax(0).topk(min(top, len(trained.classes)))
        for rank, (probability, index) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True), 1):
            row = {"image": str(file), "rank": rank, "class": trained.classes[index], "probability": probability}
            rows.append(row)
    return rows


def _image_files(paths: list[Path]) -> list[Path]:
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


def _few(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''} ({len(names)})"
