"""Published checkpoints (.pth pickles of Adventurer, DeiT, MAE, timm) to safetensors; the one door to pickles.

Nothing in the file is executed: only tensors, plain containers and `argparse.Namespace` are admitted.
"""

from __future__ import annotations

import argparse
import math
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from patchscale.cost.shapes import SHAPES
from patchscale.errors import InputError
from patchscale.models.checkpoints import read_checkpoint, write_state
from patchscale.models.registry import create
from patchscale.models.resizing import LoadReport, resize_state_dict

EXTRA_ROWS = ("dist_token", "reg_token")
OF_FEATURES = ("patch_embed.", "blocks.", "layers.", "norm", "fc_norm.", "pre_logits.", *EXTRA_ROWS)
"""How keys begin that a model cannot do without; an MAE's decoder, a mask token or a second head can stay behind."""


@dataclass(frozen=True)
class Conversion:
    """What `convert` wrote: the file, the configuration in its metadata, and what happened to each key."""

    path: Path
    config: dict[str, Any]
    report: LoadReport


def read_pickle(path: Path | str) -> Any:
    """The content of a .pth file, without executing anything in it.

    torch's weights-only reader builds tensors and plain containers and nothing else. One class more is allowed, because
    the released files hold their command line as `argparse.Namespace`, whose attributes are set and never called.

    Raises:
        InputError: no such file, not a pickle of tensors, or one that asks for code.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no checkpoint at {path}")
    try:
        # weights_only admits listed types and calls nothing that the file names; tests try pickles that would act
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = str(error)
        what = text.split("GLOBAL ")[1].split(" ")[0] if "GLOBAL " in text else "what is not tensors"
        raise InputError(f"{path} would execute code ({what}) and is refused; nothing of it was run") from error
    except Exception as error:  # on bytes that are no pickle, torch's reader fails in whatever way they lead to
        reason = (str(error).splitlines() or [""])[0]
        raise InputError(f"{path} is not a readable checkpoint ({type(error).__name__}: {reason})") from error


def select_state(content: Any, *, ema: bool, path: Path | str) -> dict[str, Tensor]:
    """The state dict of a checkpoint: `model_ema` when asked for, else `model` or `state_dict`, else the dict itself.

    Raises:
        InputError: no tensors, or no `model_ema`.
    """
    found = content
    if isinstance(content, Mapping):
        if ema and "model_ema" not in content:
            raise InputError(f"{path} has no model_ema; it holds {', '.join(map(str, list(content)[:8]))}")
        for name in ("model_ema",) if ema else ("model", "state_dict"):
            if isinstance(content.get(name), Mapping):
                found = content[name]
                break
    if not isinstance(found, Mapping):
        raise InputError(f"{path} holds a {type(found).__name__}, not a state dict")
    state = {str(k).removeprefix("module."): v for k, v in found.items() if isinstance(v, Tensor)}
    if not state:
        raise InputError(f"{path} holds no tensors; expected a state dict, or a dict with `model` or `model_ema`")
    return state


def infer_config(
    state: Mapping[str, Tensor], *, input_size: tuple[int, int] | None = None, num_heads: int | None = None
) -> dict[str, Any]:
    """The arguments of `create` that fit a state dict, read off its shapes.

    Args:
        input_size: needed when the position embedding is not of a square grid.
        num_heads: needed for a ViT of a width that no DeiT has.

    Raises:
        InputError: neither a ViT nor an Adventurer, one with further tokens, or a size that shapes cannot tell.
    """
    if "layers.0.mixer.in_proj.weight" in state:
        family, blocks = "adventurer", "layers"
    elif "blocks.0.attn.qkv.weight" in state:
        family, blocks = "deit", "blocks"
    else:
        raise InputError(
            f"neither an Adventurer nor a ViT: the checkpoint's first keys are {', '.join(list(state)[:4])}"
        )
    if extra := [key for key in EXTRA_ROWS if key in state]:
        raise InputError(f"the checkpoint has a {extra[0]}, a row that no model here has; give one without")
    dim, chans, _, patch = _shape(state, "patch_embed.proj.weight", 4)
    depth = 1 + max(int(key.split(".")[1]) for key in state if re.match(rf"{blocks}\.\d", key))
    if input_size is None:
        rows = _shape(state, "pos_embed", 2, 3)[-2] - int("cls_token" in state)
        side = math.isqrt(rows)
        if side * side != rows:
            raise InputError(f"{rows} position rows are not a square grid; give the input size as height and width")
        input_size = (side * patch, side * patch)
    known = [s for s in SHAPES.values() if s.family == family and s.embed_dim == dim and s.patch_size == 16]
    config: dict[str, Any] = {
        "model": known[0].name if known else f"{family}_base_patch16",
        "input_size": list(input_size),
        "patch_size": patch,
        "in_chans": chans,
        "num_classes": state["head.weight"].shape[0] if "head.weight" in state else 0,
    }
    if not known:
        config["embed_dim"] = dim
    if not known or known[0].depth != depth:
        config["depth"] = depth
    if family == "deit":
        heads = num_heads or (known[0].num_heads if known else None)
        if heads is None:
            raise InputError(f"the number of heads cannot be told from a width of {dim}; give num_heads")
        config["num_heads"] = heads
        hidden = _shape(state, "blocks.0.mlp.fc1.weight", 2)[0]
        if hidden != 4 * dim:
            config["mlp_ratio"] = hidden / dim
    else:
        config |= _mixer_config(state, dim)
    return config


def _shape(state: Mapping[str, Tensor], key: str, *axes: int) -> torch.Size:
    """The shape of a tensor that must be there, with one of these numbers of axes."""
    if key not in state:
        raise InputError(f"the checkpoint has no {key}, off which sizes are read; give the weights of a whole model")
    if state[key].ndim not in axes:
        raise InputError(f"{key} of the checkpoint has shape {list(state[key].shape)}, expected {axes[-1]} axes")
    return state[key].shape


def _mixer_config(state: Mapping[str, Tensor], dim: int) -> dict[str, Any]:
    inner = _shape(state, "layers.0.mixer.out_proj.weight", 2)[1]
    heads = _shape(state, "layers.0.mixer.A_log", 1)[0]
    channels, _, taps = _shape(state, "layers.0.mixer.conv1d.weight", 3)
    found = {"expand": inner // dim, "headdim": inner // heads, "d_state": (channels - inner) // 2, "d_conv": taps}
    usual = {"expand": 2, "headdim": 64, "d_state": 64, "d_conv": 4}
    config: dict[str, Any] = {name: value for name, value in found.items() if value != usual[name]}
    hidden = _shape(state, "layers.0.mlp.w1.weight", 2)[0]
    return config if hidden == int(2.5 * dim) else {**config, "mlp_ratio": hidden / dim}


def _refuse_unplaced(keys: Sequence[str], model: str, source: Path) -> None:
    """Raises InputError where what computes the features, or stands before the head, has no place in the model."""
    if lost := [key for key in keys if key.startswith(OF_FEATURES)]:
        raise InputError(f"{source} does not fit {model}, which has no {', '.join(lost[:4])}; its outputs would differ")


def convert(
    source: Path | str,
    target: Path | str,
    *,
    ema: bool = False,
    flip: str = "released",
    input_size: tuple[int, int] | None = None,
    num_heads: int | None = None,
) -> Conversion:
    """Writes a published checkpoint as safetensors whose metadata carry configuration and flip.

    Args:
        source: .pth (or .safetensors without configuration) of Adventurer, DeiT, MAE or a timm ViT.
        target: .safetensors file to write.
        ema: take `model_ema` instead of `model`.
        flip: rule the Adventurer was trained with; the published ones with `released`.
        input_size, num_heads: see `infer_config`.

    Raises:
        InputError: a file that would execute code, that fits no model, or that says itself which model it is. Nothing
            is written then.
    """
    source, target = Path(source), Path(target)
    if target.suffix != ".safetensors":
        raise InputError(f"the target {target} must end with .safetensors")
    if source.suffix == ".safetensors":
        state, stored = read_checkpoint(source)
        if stored is not None:
            raise InputError(f"{source} carries its configuration ({stored.get('model')}) already; use it as it is")
        if ema:
            raise InputError(f"{source} holds one set of weights, and a .pth may hold averaged ones; leave ema out")
    else:
        state = select_state(read_pickle(source), ema=ema, path=source)
    config = infer_config(state, input_size=input_size, num_heads=num_heads)
    if config["model"].startswith("adventurer"):
        config["flip"] = flip
    arguments = {**config, "name": config["model"], "input_size": tuple(config["input_size"]), "device": "meta"}
    del arguments["model"]
    model = create(**arguments)
    tensors, report = resize_state_dict(state, model, old_grid=model.patch_embed.grid_size)  # type: ignore[union-attr,arg-type]
    if report.missing or report.reinitialised:
        raise InputError(
            f"{source} does not fit {config['model']}: missing {', '.join(report.missing[:4]) or 'nothing'}; "
            f"other shapes {', '.join(report.reinitialised) or 'none'}"
        )
    _refuse_unplaced(report.left_over, config["model"], source)
    write_state(target, tensors, config, {"source": source.name, "weights": "model_ema" if ema else "model"})
    return Conversion(target, config, report)
