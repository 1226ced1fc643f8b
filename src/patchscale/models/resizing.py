"""A checkpoint moved to another patch size or input size: every key that changes is reported."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from patchscale.errors import InputError
from patchscale.models.adventurer import Adventurer
from patchscale.tokens import resize_patch_weight, resize_positions


@dataclass
class LoadReport:
    """What happened to each key: nothing is dropped or made up without a line here.

    Attributes:
        loaded: keys taken as they are.
        resized: key -> "old shape -> new shape".
        missing: keys of the model that the checkpoint lacks; they keep their fresh values.
        left_over: keys of the checkpoint that the model has no place for.
        reinitialised: keys whose shapes differ for another reason (a head of other classes): kept fresh.
    """

    loaded: list[str] = field(default_factory=list)
    resized: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    reinitialised: dict[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """One line per key that was not simply loaded, after a summary line."""
        out = [
            f"{len(self.loaded)} keys loaded, {len(self.resized)} resized, {len(self.missing)} missing, "
            f"{len(self.left_over)} left over, {len(self.reinitialised)} reinitialised"
        ]
        out += [f"resized        {key}: {what}" for key, what in self.resized.items()]
        out += [f"missing        {key}" for key in self.missing]
        out += [f"left over      {key}" for key in self.left_over]
        out += [f"reinitialised  {key}: {what}" for key, what in self.reinitialised.items()]
        return out


def _square_grid(count: int) -> tuple[int, int]:
    side = math.isqrt(count)
    if side * side != count:
        raise InputError(f"{count} position rows are not a square grid; give old_grid=(rows, columns)")
    return side, side


def _moved_positions(pos: Tensor, model: nn.Module, old_grid: tuple[int, int] | None) -> Tensor:
    """Positions of a ViT (prefix rows first) or an Adventurer (class row last) on the model's grid."""
    if pos.ndim == 2:
        pos = pos[None]
    new_grid = tuple(model.patch_embed.grid_size)  # type: ignore[union-attr]
    if isinstance(model, Adventurer):
        return resize_positions(pos, old_grid or _square_grid(pos.shape[1] - 1), new_grid, class_row="last")
    wanted = 0 if getattr(model, "no_embed_class", False) else int(getattr(model, "num_prefix_tokens", 1))
    count = old_grid[0] * old_grid[1] if old_grid else 0
    if old_grid is None:
        # the prefix of the checkpoint may differ from the model's (a ViT with a class row, a model without)
        prefix = next((k for k in (wanted, 1, 0, 2) if math.isqrt(pos.shape[1] - k) ** 2 == pos.shape[1] - k), wanted)
        old_grid = _square_grid(pos.shape[1] - prefix)
    else:
        prefix = pos.shape[1] - count
    if prefix != wanted:
        raise InputError(
            f"the checkpoint has {prefix} prefix row(s) in its positions, the model {wanted}; "
            "build the model with the same class and register tokens"
        )
    if tuple(old_grid) == new_grid:
        return pos
    patches = resize_positions(pos[:, prefix:], old_grid, new_grid)  # type: ignore[arg-type]
    return torch.cat([pos[:, :prefix], patches], dim=1)


def _encoder_with_positions(model: nn.Module, key: str) -> nn.Module | None:
    """The encoder in `model` whose positions are called `key`; None where they are something else."""
    part, _, name = key.rpartition(".")
    owner = model.get_submodule(part) if name == "pos_embed" else None
    return owner if hasattr(owner, "patch_embed") else None


def resize_state_dict(
    state: Mapping[str, Tensor], model: nn.Module, *, old_grid: tuple[int, int] | None = None
) -> tuple[dict[str, Tensor], LoadReport]:
    """Fits a state dict to `model`: patch weight by pseudo-inverse, positions by bicubic resize, class row kept.

    Args:
        state: names and tensors of the checkpoint.
        model: the model to be filled: a timm ViT or an Adventurer, or one that has it as a part.
        old_grid: token grid of the checkpoint; None takes a square one.

    Returns:
        The tensors that fit, and the report.

    Raises:
        InputError: positions whose grid cannot be told, or with other prefix rows than the model's.
    """
    target = model.state_dict()
    out: dict[str, Tensor] = {}
    report = LoadReport()
    for key, value in state.items():
        if key not in target:
            report.left_over.append(key)
            continue
        want = tuple(target[key].shape)
        new = value
        encoder = _encoder_with_positions(model, key)
        if getattr(encoder, "positions", "learned") == "sincos":
            report.reinitialised[key] = "fixed sin-cos positions of the model are kept"
            continue
        if key.endswith("patch_embed.proj.weight"):
            if value.ndim == 2:
                side = math.isqrt(value.shape[1] // want[1])
                value = new = value.reshape(value.shape[0], want[1], side, side)
            if value.shape[:2] == want[:2]:
                new = resize_patch_weight(value, want[-1])
        elif encoder is not None:
            new = _moved_positions(value, encoder, old_grid)
        if tuple(new.shape) != want:
            report.reinitialised[key] = f"checkpoint {list(value.shape)}, model {list(want)}"
            continue
        if new is value:
            report.loaded.append(key)
        else:
            report.resized[key] = f"{list(value.shape)} -> {list(new.shape)}"
        out[key] = new
    report.missing = [key for key in target if key not in out and key not in report.reinitialised]
    return out, report


def filter_state_dict(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """timm's hook for `pretrained`: the resized tensors alone."""
    return resize_state_dict(state, model)[0]
