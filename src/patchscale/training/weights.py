"""Trained weights as one safetensors file that says what it is: model, classes, and the trial that made it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from safetensors.torch import save
from torch import nn

from patchscale import models
from patchscale.errors import InputError
from patchscale.files import write_bytes
from patchscale.training.checkpoint import read_tensors
from patchscale.training.trial import TrialConfig


class TrainedModel(NamedTuple):
    """A model in evaluation mode, with what is needed to use it."""

    model: nn.Module
    config: TrialConfig
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def save_weights(
    path: Path,
    model: nn.Module,
    config: TrialConfig,
    *,
    classes: tuple[str, ...],
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> None:
    """Writes the weights; the metadata key `patchscale` holds everything that `load_weights` needs, as JSON."""
    about = {"trial": config.model_dump(mode="json"), "classes": classes, "mean": mean, "std": std}
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(path, save(tensors, {"format": "pt", "patchscale": json.dumps(about)}))


def load_weights(path: Path) -> TrainedModel:
    """The model of a weights file that `save_weights` wrote.

    Raises:
        InputError: no such file, not safetensors, or not written by patchscale.
    """
    if not path.is_file():
        raise InputError(f"no weights at {path}; give a weights.safetensors file of a finished trial")
    tensors, metadata = read_tensors(path)
    if "patchscale" not in metadata:
        raise InputError(f"{path} carries no patchscale configuration; give a weights.safetensors of a finished trial")
    about = json.loads(metadata["patchscale"])
    config = TrialConfig.model_validate(about["trial"])
    spec = config.model
    model = models.create(
        spec.name,
        input_size=spec.input_size,
        patch_size=spec.patch_size,
        num_classes=len(about["classes"]),
        positions=spec.positions,
        **spec.options,
    )
    model.load_state_dict(tensors)
    return TrainedModel(model.eval(), config, tuple(about["classes"]), tuple(about["mean"]), tuple(about["std"]))
