"""One trial by itself: the same folder layout, without a study around it."""

from __future__ import annotations

import contextlib
import json
import os
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
from patchscale.training import (
    Keep,
    Parallel,
    Processes,
    Progress,
    SaidElsewhere,
    Stopped,
    TrialConfig,
    default_device,
    join,
    train,
)
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
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a trial file ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} holds {type(content).__name__}, not the keys of a trial")
    for setting in settings:
        apply_setting(content, setting)
    with clear_errors(str(path), KEYS):
        return TrialConfig.model_validate(content)


def train_single(
    trial: TrialConfig,
    out: Path,
    *,
    parallel: Parallel = "ddp",
    keep_every: int = 0,
    trackers: Sequence[str] = (),
    say: Callable[[str], None],
) -> dict[str, Any] | None:
    """Trains `trial` in folder `out`, with progress lines and copies of the metrics; continues what is there.

    Args:
        trial: the trial; precision `auto` is settled here.
        out: its folder.
        parallel: where the weights lie if torchrun started several processes.
        keep_every: see `training.Keep`.
        trackers: names of trackers to copy metrics to.
        say: receives a line now and then, in the first process.

    Returns:
        The result row; nothing in processes other than the first.

    Raises:
        InputError: the folder holds another trial, or cannot be written.
        KeyboardInterrupt: after Ctrl-C, with a checkpoint written; `Terminated` after another signal.
        SystemExit: in processes other than the first, which says what is wrong.
    """
    check_trackers(trackers)
    try:
        with join(default_device()) as processes, contextlib.ExitStack() as held:
            done: dict[str, Any] | None = None
            with processes.together():
                if processes.first:
                    trial = _prepared(trial, out, say)
                    done = _hold(out, held)
                    if done is not None:
                        say(f"{out} is finished already")
                    else:
                        held.enter_context(mirrored(out, trackers, say))
            trial, done = processes.share((trial, done))
            if done is None:
                done = _train(trial, out, processes, parallel, Keep(every=keep_every), say)
            return done if processes.first else None
    except SaidElsewhere as silent:
        raise SystemExit(1) from silent


def _prepared(trial: TrialConfig, out: Path, say: Callable[[str], None]) -> TrialConfig:
    """The trial with its precision settled, that of the trial which is there already if there is one."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write to {out} ({error.strerror}); choose another --out") from error
    before = load_trial(out / "config.json", []) if (out / "config.json").exists() else None
    if trial.recipe.precision == "auto":
        precision = before.recipe.precision if before else fastest_precision([trial.model], default_device(), say=say)
        trial = trial.model_copy(update={"recipe": trial.recipe.model_copy(update={"precision": precision})})
    if trial.init is not None:
        trial = trial.model_copy(update={"init": trial.init.settled()})
    if before is not None and before != trial:
        raise InputError(f"{out} holds another trial; choose another --out or repeat its configuration")
    return trial


def _hold(out: Path, held: contextlib.ExitStack) -> dict[str, Any] | None:
    """Holds the folder until `held` is closed; gives the result if there is one."""
    try:
        held.enter_context(hold_folder(out))
    except TrialBusy as busy:
        raise InputError(f"{busy}; wait for it, or choose another --out") from busy
    except OSError as error:
        raise InputError(f"cannot write to {out} ({error.strerror}); choose another --out") from error
    result = out / "result.json"
    return json.loads(result.read_text()) if result.exists() else None


def _train(
    trial: TrialConfig, out: Path, processes: Processes, parallel: Parallel, keep: Keep, say: Callable[[str], None]
) -> dict[str, Any]:
    asked_to_stop: list[int] = []
    handlers = {number: signal.signal(number, lambda number, _: asked_to_stop.append(number)) for number in _SIGNALS}
    parent = os.getppid()

    def should_stop() -> bool:
        orphaned = processes.size > 1 and os.getppid() != parent
        return bool(asked_to_stop) or orphaned

    def tell(progress: Progress) -> None:
        if processes.first and progress.step % max(1, progress.steps // 20) == 0:
            left = f"{progress.seconds_left:.0f} s left"
            say(f"step {progress.step}/{progress.steps} loss {progress.loss:.4f}, {left}")

    try:
        return train(trial, out, report=tell, should_stop=should_stop, keep=keep, parallel=parallel, commit=commit())
    except Stopped as stop:
        if not processes.first:
            raise SystemExit(1) from stop
        say(str(stop))
        raise (KeyboardInterrupt if signal.SIGINT in asked_to_stop else Terminated) from stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
