"""One trial by itself: the same folder layout, without a study around it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from patchscale.errors import InputError
from patchscale.studies.clear_errors import clear_errors
from patchscale.studies.presets import apply_setting
from patchscale.studies.schema import KEYS
from patchscale.training import Progress, Stopped, TrialConfig, default_device, train
from patchscale.training.precision import fastest_precision


def load_trial(path: Path, settings: list[str]) -> TrialConfig:
    """A trial from YAML or JSON, with `key=value` changes.

    Raises:
        InputError: no such file, not YAML, or keys and values that do not fit.
    """
    if not path.is_file():
        raise InputError(f"no trial file at {path}; give a YAML or JSON file such as a trial's config.json")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {getattr(error, 'problem', error)}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds {type(content).__name__}, not the keys of a trial")
    for setting in settings:
        apply_setting(content, setting)
    with clear_errors(str(path), KEYS):
        return TrialConfig.model_validate(content)


def train_single(trial: TrialConfig, out: Path, *, say: Callable[[str], None]) -> dict[str, Any]:
    """Trains `trial` in folder `out`, with progress lines; continues what is there.

    Raises:
        InputError: the folder holds another trial, or cannot be written.
        KeyboardInterrupt: after Ctrl-C, with a checkpoint written.
    """
    if trial.recipe.precision == "auto":
        precision = fastest_precision([trial.model], default_device(), say=say)
        recipe = trial.recipe.model_copy(update={"precision": precision})
        trial = trial.model_copy(update={"recipe": recipe})
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {out} ({error.strerror}); choose another --out") from error
    stored = out / "config.json"
    if stored.exists() and load_trial(stored, []) != trial:
        raise InputError(f"{out} holds another trial; choose another --out or repeat its configuration")
    asked_to_stop = []
    before = {number: signal.signal(number, lambda *_: asked_to_stop.append(True)) for number in _SIGNALS}

    def tell(progress: Progress) -> None:
        if progress.step % max(1, progress.steps // 20) == 0:
            left = progress.seconds / progress.step * (progress.steps - progress.step)
            say(f"step {progress.step}/{progress.steps} loss {progress.loss:.4f}, {left:.0f} s left")

    try:
        return train(trial, out, report=tell, should_stop=lambda: bool(asked_to_stop))
    except Stopped as stop:
        say(str(stop))
        raise KeyboardInterrupt from stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
