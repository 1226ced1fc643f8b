"""Places of weights in a study: a path that may name a trial's place in the grid, and how places are told apart."""

from __future__ import annotations

import re

from patchscale.errors import InputError
from patchscale.training import TrialConfig

_BRACES = re.compile(r"\{([^{}]*)\}")


def place_of(weights: str, trial: TrialConfig) -> str:
    """The path `weights` with the trial's values for the names in braces.

    Raises:
        InputError: another name in braces.
    """
    values = _values(trial)
    for name in _BRACES.findall(weights):
        if name not in values:
            known = ", ".join(f"{{{name}}}" for name in values)
            raise InputError(f"init {weights!r} names {{{name}}}; a path of weights may name {known}")
    return _BRACES.sub(lambda found: str(values[found[1]]), weights)


def key_of(directory: str, trial: TrialConfig) -> str:
    """A run directory and the trial that wants weights from it."""
    return ", ".join([directory, *(f"{name} {value}" for name, value in _values(trial).items())])


def _values(trial: TrialConfig) -> dict[str, str | int]:
    """What a path of weights may name in braces, as in `weights/deit_p{patch_size}.safetensors`."""
    spec = trial.model
    return {
        "model": spec.name,
        "patch_size": spec.patch_size,
        "input_size": spec.size,
        "random_seed": trial.random_seed,
    }
