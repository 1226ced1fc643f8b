"""Every named model registered with timm, and `create`, which builds one with exact errors."""

from __future__ import annotations

import difflib
from typing import Any

import timm
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import nn

from patchscale.cost.shapes import LCT_SHAPES, SHAPES, ModelShape
from patchscale.errors import InputError
from patchscale.models.adventurer import Adventurer
from patchscale.models.deit import DeiT, Positions
from patchscale.models.lct_vit import LctViT
from patchscale.models.reduction import reduce_tokens
from patchscale.tokens import grid_size

_DEFAULTS = {
    "url": "",
    "num_classes": 1000,
    "input_size": (3, 224, 224),
    "pool_size": None,
    "crop_pct": 0.9,
    "interpolation": "bicubic",
    "fixed_input_size": True,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "first_conv": "patch_embed.proj",
    "classifier": "head",
    "license": "apache-2.0",
}
default_cfgs = generate_default_cfgs({f"{name}.untrained": _DEFAULTS for name in SHAPES | LCT_SHAPES})


def _arguments(shape: ModelShape) -> dict[str, Any]:
    common: dict[str, Any] = {"patch_size": shape.patch_size, "embed_dim": shape.embed_dim, "depth": shape.depth}
    if shape.family == "deit":
        return {**common, "num_heads": shape.num_heads, "mlp_ratio": shape.mlp_hidden / shape.embed_dim}
    mixer = {"d_state": shape.d_state, "d_conv": shape.d_conv, "expand": shape.expand, "headdim": shape.headdim}
    return {**common, **mixer, "mlp_ratio": 2.5}


_BUILD_ONLY = {  # arguments that do not describe the network, or that the finished network tells better
    "img_size", "patch_size", "num_classes", "positions", "flip", "drop_path_rate", "device", "dtype", "backend",
    "chunk_size", "cache_dir", "pretrained_cfg", "pretrained_cfg_overlay", "features_only", "out_indices",
}  # fmt: skip


def _remembering(model: Any, name: str, arguments: dict[str, Any]) -> nn.Module:
    """The model with what built it, and the pooling that it was built with, which `reset_classifier` can change."""
    kept = {key: value for key, value in arguments.items() if key not in _BUILD_ONLY}
    model.built_with, model.built_pool = {"model": name, **kept}, getattr(model, "global_pool", None)
    return model


def _register(shape: ModelShape) -> None:
    plain = DeiT if shape.family == "deit" else Adventurer
    model_class = LctViT if shape.name in LCT_SHAPES else plain

    def build(pretrained: bool = False, **kwargs) -> nn.Module:
        from patchscale.models.resizing import filter_state_dict

        arguments = {**_arguments(shape), **kwargs}
        model = build_model_with_cfg(
            model_class,
            shape.name,
            pretrained,
            pretrained_filter_fn=filter_state_dict,
            feature_cfg={"out_indices": 3, "feature_cls": "getter"},
            **arguments,
        )
        return _remembering(model, shape.name, kwargs)

    build.__name__ = build.__qualname__ = shape.name
    build.__doc__ = f"{shape.name}: width {shape.embed_dim}, depth {shape.depth}."
    register_model(build)


for _shape in (SHAPES | LCT_SHAPES).values():
    _register(_shape)


def create(
    name: str,
    *,
    input_size: tuple[int, int],
    patch_size: int,
    num_classes: int,
    in_chans: int = 3,
    positions: Positions = "learned",
    drop_path: float = 0.0,
    reducer: str = "none",
    kept_tokens: int | None = None,
    reducer_options: dict[str, Any] | None = None,
    **model_kwargs: Any,
) -> nn.Module:
    """Builds a model by its registered name.

    Args:
        name: one of ours, such as `adventurer_tiny_patch16`, or any timm ViT.
        input_size: image height and width.
        patch_size: p.
        positions: `learned` or `sincos` (ours only).
        drop_path: stochastic depth rate.
        reducer: one of `patchscale.tokens.reducers.REDUCERS`, or "none"; `lct_vit_*` brings its own.
        kept_tokens: tokens that a reducer leaves, the class token not counted; for `lct_vit_*` all its slots.
        reducer_options: further arguments of `patchscale.models.reduction.Reduction`, such as `before`.
        **model_kwargs: further arguments of the model, such as `flip`, `embed_dim`, `depth`.

    Raises:
        InputError: unknown model (close names are listed), a patch size that does not divide, a mistyped argument, or
            a reducer without a number of tokens to keep.
    """
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, [*SHAPES, *LCT_SHAPES, *timm.list_models("*vit*")], n=3, cutoff=0.4)
        raise InputError(f"unknown model {name!r}; use one of {', '.join(close or sorted(SHAPES))}")
    grid_size(input_size, patch_size)
    arguments: dict[str, Any] = {
        "img_size": tuple(input_size),
        "patch_size": patch_size,
        "num_classes": num_classes,
        "in_chans": in_chans,
        "drop_path_rate": drop_path,
        **model_kwargs,
    }
    if name in LCT_SHAPES:
        if reducer not in ("none", "filtering_released"):
            raise InputError(f"{name} has its own reducer, filtering_released, not {reducer!r}; use a deit model")
        arguments |= {} if kept_tokens is None else {"kept_tokens": kept_tokens}
    elif name in SHAPES:
        arguments["positions"] = positions
    elif positions != "learned":
        raise InputError(f"positions {positions!r} is for models of patchscale, not {name}; use learned")
    try:
        model = timm.create_model(name, **arguments)
    except TypeError as error:
        raise InputError(f"{name} does not take these arguments: {error}") from error
    if name not in SHAPES | LCT_SHAPES:
        _remembering(model, name, arguments)
    if name not in LCT_SHAPES and reducer != "none":
        if kept_tokens is None:
            raise InputError(f"reducer {reducer} needs kept_tokens, the number of tokens to keep")
        options = reducer_options or {}
        reduce_tokens(model, reducer, kept_tokens, **options)
        model.built_with |= {"reducer": reducer, "kept_tokens": kept_tokens, "reducer_options": options}  # type: ignore[operator]
    return model
