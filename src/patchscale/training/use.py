"""Trained weights at work: scores on a data set, and what they see in a user's own images."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch

from patchscale.data import normalise
from patchscale.data.decode import centre_view, image_files, open_image
from patchscale.errors import InputError
from patchscale.tasks import Predicted, Regularisation, Trained, build_task, evaluate, task_class
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
        own = dict.fromkeys(("root", "limit_train", "limit_test", "train_size", "test_size"))
        spec = spec.model_copy(update={"name": data, **own})
    config = trained.config
    task = build_task(config.task, config.model, spec, config.task_options, Regularisation())
    if task.classes != trained.classes:
        raise InputError(f"{spec.name} has classes {_few(task.classes)}, the weights know {_few(trained.classes)}")
    task.mean, task.std = trained.mean, trained.std
    device = default_device()
    return evaluate(task, trained.model.to(device), device, contextlib.nullcontext)


def predict_images(paths: list[Path], weights: Path, out: Path, *, top: int = 5) -> Predicted:
    """What trained weights say of images; a task with more to show than classes writes it to `out`.

    Args:
        paths: image files or folders of images; for detection also one COCO json, for captioning JSONL files of
            questions.
        weights: of a finished trial.
        out: an existing folder.
        top: classes per image, for classification.

    Raises:
        InputError: nothing to read at a path, or a file that is not a whole image.
    """
    trained = load_weights(weights)
    config = trained.config
    known = Trained(
        trained.model, config.model, config.data, config.task_options, trained.classes, trained.mean, trained.std
    )
    predict = getattr(task_class(config.task), "predict", None)
    if predict is None:
        return _classify(known, image_files(paths), top)
    device = default_device()
    return predict(known._replace(model=trained.model.to(device)), paths, out, device)


@torch.no_grad()
def _classify(trained: Trained, files: list[Path], top: int) -> Predicted:
    """The `top` most probable classes of each image: rows of image, rank, class, probability."""
    rows: list[dict[str, Any]] = []
    for file in files:
        view = centre_view(
            open_image(file.read_bytes(), str(file)),
            trained.spec.input_size,
            trained.data.resample,
            trained.data.test_crop,
        )
        logits = trained.model(normalise(torch.from_numpy(view)[None], trained.mean, trained.std))[0]
        best = logits.float().softmax(0).topk(min(top, len(trained.classes)))
        for rank, (probability, index) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True), 1):
            row = {"image": str(file), "rank": rank, "class": trained.classes[index], "probability": probability}
            rows.append(row)
    lines = [f"{row['image']}: {row['class']} ({100 * row['probability']:.1f} %)" for row in rows if row["rank"] == 1]
    return Predicted(("image", "rank", "class", "probability"), rows, lines)


def _few(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''} ({len(names)})"
