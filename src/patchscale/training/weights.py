"""Trained weights as one safetensors file that says what it is: the model, its classes, and the trial that made it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from safetensors import safe_open
from torch import nn

from patchscale.errors import InputError
from patchscale.models.checkpoints import model_config, read_checkpoint, write_state
from patchscale.tasks import build_network
from patchscale.training.trial import TrialConfig

KEY = "trial"


class TrainedModel(NamedTuple):
    """A model in evaluation mode, with what is needed to use it."""

    model: nn.Module
    config: TrialConfig
    classes: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def save_weights(
    path: Path,
    model: nn.Module,
    config: TrialConfig,
    *,
    encoder: nn.Module,
    classes: tuple[str, ...],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> None:
    """Writes the weights; the metadata hold the encoder's configuration and, as JSON, all else that use needs."""
    about = {"config": config.model_dump(mode="json"), "classes": classes, "mean": mean, "std": std}
    write_state(path, model.state_dict(), model_config(encoder), {KEY: json.dumps(about)})


def load_weights(path: Path) -> TrainedModel:
    """The model of a weights file that a trial wrote.

    Raises:
        InputError: no such file, not safetensors, or not from a trial.
    """
    state, _ = read_checkpoint(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata() or {}
    if KEY not in metadata:
        raise InputError(f"{path} does not name its classes; give the weights.safetensors of a finished trial")
    about = json.loads(metadata[KEY])
    config = TrialConfig.model_validate(about["config"])
    model = build_network(config.task, config.model, len(about["classes"]), config.task_options)
    model.load_state_dict(state)
    return TrainedModel(model.eval(), config, tuple(about["classes"]), tuple(about["mean"]), tuple(about["std"]))
