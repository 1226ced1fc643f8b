"""One trial by itself: the same folder layout, without a study around it."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from patchscale.errors import InputError, Terminated
from patchscale.studies.clear_errors import clear_errors
from patchscale.studies.presets import apply_setting
from patchscale.studies.provenance import commit
from patchscale.studies.run_directory import TrialBusy, hold_folder
from patchscale.studies.schema import KEYS
from patchscale.studies.trackers import check_trackers, mirrored
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


def train_single(
    trial: TrialConfig, out: Path, *, trackers: Sequence[str] = (), say: Callable[[str], None]
) -> dict[str, Any]:
    """Trains `trial` in folder `out`, with progress lines and copies of the metrics; continues what is there.

    Raises:
        InputError: the folder holds another trial, or cannot be written.
        KeyboardInterrupt: after Ctrl-C, with a checkpoint written; `Terminated` after another signal.
    """
    check_trackers(trackers)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {out} ({error.strerror}); choose another --out") from error
    before = load_trial(out / "config.json", []) if (out / "config.json").exists() else None
    if trial.recipe.precision == "auto":
        precision = before.recipe.precision if before else fastest_precision([trial.model], default_device(), say=say)
        trial = trial.model_copy(update={"recipe": trial.recipe.model_copy(update={"precision": precision})})
    if before is not None and before != trial:
        raise InputError(f"{out} holds another trial; choose another --out or repeat its configuration")
    try:
        with hold_folder(out):
            if (out / "result.json").exists():
                say(f"{out} is finished already")
                return json.loads((out / "result.json").read_text())
            with mirrored(out, trackers, say):
                return _train(trial, out, say)
    except TrialBusy as busy:
        raise InputError(f"{busy}; wait for it, or choose another --out") from busy


def _train(trial: TrialConfig, out: Path, say: Callable[[str], None]) -> dict[str, Any]:
    asked_to_stop: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: asked_to_stop.append(number)) for number in _SIGNALS}

    def tell(progress: Progress) -> None:
        if progress.step % max(1, progress.steps // 20) == 0:
            left = f"{progress.seconds_left:.0f} s left"
            say(f"step {progress.step}/{progress.steps} loss {progress.loss:.4f}, {left}")

    try:
        return train(trial, out, report=tell, should_stop=lambda: bool(asked_to_stop), commit=commit())
    except Stopped as stop:
        say(str(stop))
        raise (KeyboardInterrupt if asked_to_stop[0] == signal.SIGINT else Terminated) from stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
