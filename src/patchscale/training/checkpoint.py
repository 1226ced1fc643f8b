"""One checkpoint is one safetensors file: tensors of model, optimizer and average, and the loop's state as metadata.

A single file that is replaced atomically cannot be torn, loading it cannot execute code, and a digest of its tensors
tells damage. Tensors are whole, however the weights were distributed when it was written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from patchscale.errors import InputError
from patchscale.files import write_bytes
from patchscale.training.placement import sliced_like, whole

State = dict[str, Any]


def collect_tensors(
    model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None, *, keep: bool = True
) -> dict[str, Tensor]:
    """Everything that training changes, whole and on the host; every process must ask, those without `keep` get {}."""
    parts = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    if average is not None:
        parts |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        parts |= {f"optimizer.{index}.{slot}": tensor for slot, tensor in slots.items()}
    tensors = {}
    for name, tensor in parts.items():
        full = whole(tensor.detach())
        if keep:
            tensors[name] = full.cpu().contiguous()
    return tensors


def write_checkpoint(path: Path, tensors: Mapping[str, Tensor], trial: str, state: State) -> None:
    """Writes tensors and JSON-able `state` of the trial called `trial` in one step."""
    metadata = {"trial": trial, "state": json.dumps(state), "sha256": _digest(tensors)}
    write_bytes(path, save(dict(tensors), metadata))


def read_checkpoint(path: Path, trial: str) -> tuple[dict[str, Tensor], State]:
    """What `write_checkpoint` wrote.

    Raises:
        InputError: the file is damaged, is no checkpoint, or belongs to another trial.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read as safetensors ({error}); {REMEDY}") from error
    if not {"trial", "state", "sha256"} <= metadata.keys():
        raise InputError(f"{path} is not a checkpoint; {REMEDY}")
    if metadata["sha256"] != _digest(tensors):
        raise InputError(f"{path} is damaged: its tensors are not those that were written; {REMEDY}")
    if metadata["trial"] != trial:
        raise InputError(f"{path} is a checkpoint of trial {metadata['trial']}, not of {trial}; {REMEDY}")
    return tensors, json.loads(metadata["state"])


REMEDY = "put a good checkpoint there, or delete it to start the trial again"


def restore(
    tensors: Mapping[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None
) -> None:
    """Puts the tensors of `collect_tensors` back, each process its slice."""
    for prefix, module in (("model.", model), ("average.", average)):
        if module is not None:
            own = module.state_dict()
            module.load_state_dict({n: sliced_like(t, own[n]) for n, t in _part(tensors, prefix).items()})
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    slots: dict[int, dict[str, Tensor]] = {}
    for name, tensor in _part(tensors, "optimizer.").items():
        index, slot = name.split(".", 1)
        weight = weights[int(index)]
        same_shape = tensor.shape == weight.shape
        slots.setdefault(int(index), {})[slot] = sliced_like(tensor, weight) if same_shape else tensor
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
