"""Weights on disk: safetensors whose metadata carry the configuration that built the model, the flip rule included."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from patchscale.errors import InputError
from patchscale.files import write_bytes
from patchscale.models.adventurer import Adventurer
from patchscale.models.registry import create
from patchscale.models.resizing import LoadReport, resize_state_dict

KEY = "patchscale"


def model_config(model: nn.Module) -> dict[str, Any]:
    """The arguments of `create` that build this model as it is now.

    Raises:
        InputError: the model was not built by its registered name, or pools otherwise than it was built to and is
            neither ours nor timm's plain ViT; nobody could build it again.
    """
    built = getattr(model, "built_with", None)
    if built is None:
        raise InputError(f"{type(model).__name__} was not built by name; build it with patchscale.models.create")
    embed: Any = model.patch_embed
    config = {
        **built,
        "input_size": [int(side) for side in embed.img_size],
        "patch_size": int(embed.patch_size[0]),
        "num_classes": int(model.num_classes),  # type: ignore[arg-type]
    }
    for name in ("flip", "positions"):
        if hasattr(model, name):
            config[name] = getattr(model, name)
    return config if getattr(model, "global_pool", None) == model.built_pool else config | _pooling(model)


def _pooling(model: Any) -> dict[str, Any]:
    """The arguments that build a model with the pooling that it has now; where its last norm stands does not change."""
    if isinstance(model, VisionTransformer):
        return {"global_pool": model.global_pool, "fc_norm": not isinstance(model.fc_norm, nn.Identity)}
    if isinstance(model, Adventurer):
        return {"global_pool": model.global_pool}
    raise InputError(
        f"{type(model).__name__} was built with global_pool={model.built_pool!r} and has {model.global_pool!r} now; "
        f"build it with global_pool={model.global_pool!r}"
    )


def save_model(model: nn.Module, path: Path | str, extra: Mapping[str, str] | None = None) -> None:
    """Writes the weights and their configuration in one atomic step.

    Args:
        extra: further metadata, such as where the weights came from.
    """
    write_state(path, model.state_dict(), model_config(model), extra)


def write_state(
    path: Path | str, state: Mapping[str, Tensor], config: Mapping[str, Any], extra: Mapping[str, str] | None = None
) -> None:
    """Writes tensors with a configuration, as `save_model` does for a whole model."""
    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    write_bytes(path, save(tensors, {"format": "pt", KEY: json.dumps(dict(config)), **(extra or {})}))


def read_checkpoint(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Tensors of a safetensors file and the configuration in its metadata (None when it carries none).

    Raises:
        InputError: no such file, or not a safetensors file.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no weights at {path}; give a .safetensors file")
    if path.suffix in (".pth", ".pt", ".bin", ".ckpt"):
        raise InputError(
            f"{path} is a pickle and is not loaded directly; run `patchscale convert {path} OUT.safetensors`"
        )
    try:
        with safe_open(path, "pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise InputError(f"{path} is not a readable safetensors file ({error})") from error
    return state, json.loads(metadata[KEY]) if KEY in metadata else None


def load_model(path: Path | str, **changes: Any) -> tuple[nn.Module, LoadReport]:
    """Builds the model that a file describes and fills it.

    Args:
        path: safetensors written by `save_model` or `convert`.
        **changes: arguments of `create` to change: `input_size`, `patch_size` and `num_classes` move the weights,
            `kept_tokens` takes another number where the reducer serves several; `flip`, `positions` and sizes must
            equal what is stored.

    Raises:
        InputError: no configuration in the file, or a change that contradicts it.
    """
    state, config = read_checkpoint(path)
    if config is None:
        raise InputError(f"{path} carries no configuration; build the model and use load_resized")
    movable = (
        "input_size", "patch_size", "num_classes", "drop_path", "backend", "chunk_size", "dynamic_img_size",
        "kept_tokens",
    )  # fmt: skip
    for name, value in changes.items():
        if name not in movable and config.get(name) != value:
            raise InputError(f"{name}={value!r} contradicts {path}, whose weights have {name}={config.get(name)!r}")
    model = create(**_arguments({**config, **changes}))
    return model, _fill(model, state, config)


def load_resized(model: nn.Module, path: Path | str, *, old_grid: tuple[int, int] | None = None) -> LoadReport:
    """Fills `model` from a safetensors file; an encoder's patches and positions, also in a larger model, are resized.

    Args:
        old_grid: token grid of the checkpoint if its metadata do not say and it is not square.

    Returns:
        Every key that was resized, missing, left over or kept fresh.

    Raises:
        InputError: unreadable file, no key in common, or a flip rule other than the model's.
    """
    state, config = read_checkpoint(path)
    stored = (config or {}).get("flip")
    own = getattr(getattr(model, "encoder", model), "flip", stored)
    if stored not in (None, own):
        raise InputError(
            f"{path} was trained with flip={stored!r}, the model has flip={own!r}; build it with flip={stored!r}"
        )
    return _fill(model, state, config, old_grid, path)


def _encoder_of(state: dict[str, Tensor], model: nn.Module) -> tuple[dict[str, Tensor], list[str]]:
    """The encoder's weights alone where a file holds a larger model, whose encoder is then called `encoder`.

    A larger model, which has such a part itself, takes all.

    Returns:
        The weights, and the keys of the other parts.
    """
    own = {key.removeprefix("encoder."): value for key, value in state.items() if key.startswith("encoder.")}
    if hasattr(model, "encoder") or not own:
        return state, []
    return own, [key for key in state if not key.startswith("encoder.")]


def _fill(model, state, config, old_grid=None, path: Path | str = "the checkpoint") -> LoadReport:
    if old_grid is None and config is not None:
        height, width = config["input_size"]
        finer, patch_size = config.get("sequence_extension", 1), config["patch_size"]
        old_grid = (height // patch_size * finer, width // patch_size * finer)
    own, others = _encoder_of(state, model)
    tensors, report = resize_state_dict(own, model, old_grid=old_grid)
    report.left_over += others
    if not tensors:
        raise InputError(f"{path} has no weights for {type(model).__name__}: none of its {len(state)} keys fit")
    model.load_state_dict(tensors, strict=False)
    return report


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    arguments = dict(config)
    arguments["name"] = arguments.pop("model")
    arguments["input_size"] = tuple(arguments["input_size"])
    return arguments
