"""Image features of a model of transformers, projector included, and the attention of its encoder.

Versions differ: 5 returns an output whose `pooler_output` are the features, 4 the features themselves, those of Qwen-VL
up to 4.52 without a division by images; up to 4.51 a model has no body of its own and Qwen-VL no call for features.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from patchscale.errors import InputError

TOWERS = ("vision_tower", "vision_model", "visual")


class Features(NamedTuple):
    """What the encoder and projector make of the images."""

    blocks: list[Tensor]
    """Features [N, D] of each image or tile."""
    attentions: Any
    """Of every layer of the encoder [b, heads, L, L], or None where they were not asked for or it gives none."""


def body_of(model: Any) -> Any:
    """The part of a model that turns images into features.

    Raises:
        InputError: it has none.
    """
    for part in (getattr(model, "model", None), model):
        if part is not None and (hasattr(part, "get_image_features") or hasattr(part, "visual")):
            return part
    raise InputError(f"{type(model).__name__} gives no image features; use a model of LLaVA, PaliGemma, Qwen-VL")


def tower_of(model: Any) -> Any:
    """The image encoder of a model.

    Raises:
        InputError: it has none by a known name.
    """
    body = body_of(model)
    for name in TOWERS:
        if hasattr(body, name):
            return getattr(body, name)
    raise InputError(f"{type(model).__name__} has no encoder by a known name")


def image_features(model: Any, images: Mapping[str, Any], *, attentions: bool = False) -> Features:
    """Runs encoder and projector on what a processor gives for images.

    Args:
        model: a vision-language model of transformers.
        images: `pixel_values`, and what else its processor gives besides the text.
        attentions: also the attention weights of the encoder.

    Raises:
        InputError: the model gives no image features.
    """
    body, seen = body_of(model), []
    hooks = _hooks(tower_of(model), seen) if attentions else []
    try:
        if hasattr(body, "get_image_features"):
            found = body.get_image_features(**_fitting(body.get_image_features, images, model.config))
        else:
            found = body.visual(images["pixel_values"].type(body.visual.dtype), grid_thw=images["image_grid_thw"])
    finally:
        for hook in hooks:
            hook.remove()
    found = getattr(found, "pooler_output", found)
    if isinstance(found, Tensor) and found.ndim == 2:
        merged = images["image_grid_thw"].prod(1) // body.visual.spatial_merge_size**2
        found = found.split(merged.tolist())
    blocks = [rows for part in list(found) for rows in (part if part.ndim == 3 else [part])]
    return Features(blocks, seen[-1] if seen else None)


def taken_by(function: Callable) -> tuple[set[str], bool]:
    """Names of a function's parameters, and whether it takes others too."""
    parameters = inspect.signature(function).parameters
    return set(parameters), any(one.kind is one.VAR_KEYWORD for one in parameters.values())


def _hooks(tower: Any, seen: list[Any]) -> list[Any]:
    """Makes an encoder give its attention, where it can, and keeps it in `seen`."""
    names, others = taken_by(tower.forward)
    if "output_attentions" not in names and not others:
        return []
    return [
        tower.register_forward_pre_hook(
            lambda module, given, named: (given, {**named, "output_attentions": True}), with_kwargs=True
        ),
        tower.register_forward_hook(lambda module, given, found: seen.append(getattr(found, "attentions", None))),
    ]


def _fitting(function: Callable, images: Mapping[str, Any], config: Any) -> dict[str, Any]:
    """The arguments that this version of `get_image_features` takes; LLaVA before 4.52 has no defaults."""
    names, others = taken_by(function)
    chosen = {name: value for name, value in images.items() if others or name in names}
    needed = inspect.signature(function).parameters
    for name in ("vision_feature_layer", "vision_feature_select_strategy"):
        if name in needed and needed[name].default is inspect.Parameter.empty:
            chosen[name] = getattr(config, name)
    return {**chosen, "return_dict": True} if others else chosen
