"""Copies metrics lines of trials into trackers while they are written: a process of its own, started by `trackers`.

It is run as a file (`python -P mirror.py FOLDER TRACKER...`) and needs nothing of patchscale, so it costs no import of
torch. It says what went wrong in a line on standard output, and sweeps a last time when its input ends. What was copied
is kept in FOLDER/trackers/<tracker>.json: a line goes to a tracker once, however often a trial or a study is resumed.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import sys
import traceback
from pathlib import Path
from typing import Any, Protocol, TextIO

SWEEP_SECONDS = 2.0


class Tracker(Protocol):
    """Where lines are copied to; a run of the tracker is a trial."""

    def __init__(self, home: Path, project: str) -> None: ...

    def open(self, trial: str, name: str, config: dict[str, Any], known: str | None) -> str:
        """Starts the trial's run, or goes on with the one `known` from before; returns its name for later."""
        ...

    def log(self, trial: str, step: int, values: dict[str, float]) -> None: ...

    def close(self, trial: str, *, finished: bool) -> None: ...


class TensorBoard:
    """Event files under `tensorboard/`, one folder a trial."""

    def __init__(self, home: Path, project: str) -> None:
        from tensorboard.summary import Writer  # pyright: ignore[reportMissingImports]

        self.home, self.writer, self.writers = home / "tensorboard", Writer, {}

    def open(self, trial: str, name: str, config: dict[str, Any], known: str | None) -> str:
        self.writers[trial] = self.writer(str(self.home / name))
        return name

    def log(self, trial: str, step: int, values: dict[str, float]) -> None:
        for key, value in values.items():
            self.writers[trial].add_scalar(key, value, step)
        self.writers[trial].flush()

    def close(self, trial: str, *, finished: bool) -> None:
        self.writers.pop(trial).close()


class Wandb:
    """Offline runs under `wandb/`; `wandb sync` sends them where one wants them."""

    def __init__(self, home: Path, project: str) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        self.wandb, self.home, self.project, self.runs = wandb, home, project, {}

    def open(self, trial: str, name: str, config: dict[str, Any], known: str | None) -> str:
        self.runs[trial] = self.wandb.init(
            project=self.project,
            id=trial,
            name=name,
            config=config,
            dir=str(self.home),
            mode="offline",
            resume="allow" if known else None,
            reinit="create_new",
            settings=self.wandb.Settings(console="off", silent=True),
        )
        return trial

    def log(self, trial: str, step: int, values: dict[str, float]) -> None:
        self.runs[trial].log(values | {"step": step})

    def close(self, trial: str, *, finished: bool) -> None:
        self.runs.pop(trial).finish(exit_code=0 if finished else 1)


class Mlflow:
    """MLflow's file store under `mlruns/`."""

    def __init__(self, home: Path, project: str) -> None:
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        from mlflow.tracking import MlflowClient  # pyright: ignore[reportMissingImports]

        self.client, self.runs = MlflowClient(tracking_uri=(home / "mlruns").resolve().as_uri()), {}
        known = self.client.get_experiment_by_name(project)
        self.experiment = known.experiment_id if known else self.client.create_experiment(project)

    def open(self, trial: str, name: str, config: dict[str, Any], known: str | None) -> str:
        self.runs[trial] = known or self.client.create_run(self.experiment, run_name=name).info.run_id
        if known is None:
            for key, value in config.items():
                self.client.log_param(self.runs[trial], key, value)
        else:
            self.client.update_run(known, status="RUNNING")
        return self.runs[trial]

    def log(self, trial: str, step: int, values: dict[str, float]) -> None:
        for key, value in values.items():
            self.client.log_metric(self.runs[trial], key, value, step=step)

    def close(self, trial: str, *, finished: bool) -> None:
        self.client.set_terminated(self.runs.pop(trial), "FINISHED" if finished else "KILLED")


class Trackio:
    """Trackio's local database under `trackio/`."""

    def __init__(self, home: Path, project: str) -> None:
        os.environ["TRACKIO_DIR"] = str(home / "trackio")
        import trackio  # pyright: ignore[reportMissingImports]

        self.trackio, self.project, self.runs = trackio, project, {}

    def open(self, trial: str, name: str, config: dict[str, Any], known: str | None) -> str:
        resume = "allow" if known else "never"
        self.runs[trial] = self.trackio.init(project=self.project, name=name, config=config, resume=resume, embed=False)
        return name

    def log(self, trial: str, step: int, values: dict[str, float]) -> None:
        self.runs[trial].log(values, step=step)

    def close(self, trial: str, *, finished: bool) -> None:
        self.runs.pop(trial).finish()


TRACKERS: dict[str, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": Wandb,
    "mlflow": Mlflow,
    "trackio": Trackio,
}


class Copier:
    """One tracker of one folder: what it has, and what it still lacks."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.home = folder, folder / "trackers"
        self.file = self.home / f"{name}.json"
        self.lock = (self.home / f"{name}.lock").open("w")
        fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.copied: dict[str, dict[str, Any]] = json.loads(self.file.read_text()) if self.file.exists() else {}
        self.tracker = TRACKERS[name](self.home, folder.resolve().name)
        self.opened: set[str] = set()

    def sweep(self) -> None:
        """Copies lines that the tracker lacks, and closes the runs of finished trials."""
        for place in _trial_folders(self.folder):
            trial, finished = place.name, (place / "result.json").exists()
            have = self.copied.get(trial, {})
            lines = [line for line in _lines(place / "metrics.jsonl") if line["step"] > have.get(line["kind"], -1)]
            if lines:
                self._copy(place, lines)
            if finished and trial in self.opened:
                self._close(trial, finished=True)

    def _copy(self, place: Path, lines: list[dict[str, Any]]) -> None:
        trial = place.name
        have = self.copied.setdefault(trial, {})
        if trial not in self.opened:
            config = json.loads((place / "config.json").read_text())
            have["run"] = self.tracker.open(trial, _name(trial, config), _flat(config), have.get("run"))
            self.opened.add(trial)
        for line in lines:
            kind, step = line["kind"], line["step"]
            values = {f"{kind}/{key}": value for key, value in line.items() if key != "step" and _is_number(value)}
            self.tracker.log(trial, step, values)
            have[kind] = step
        _replace(self.file, json.dumps(self.copied))

    def _close(self, trial: str, *, finished: bool) -> None:
        self.opened.remove(trial)
        self.tracker.close(trial, finished=finished)

    def close(self) -> None:
        for trial in sorted(self.opened):
            self._close(trial, finished=False)


def main() -> None:
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    (folder / "trackers").mkdir(exist_ok=True)
    said = os.fdopen(os.dup(1), "w", buffering=1)
    log = os.open(folder / "trackers" / "mirror.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.dup2(log, 1)
    os.dup2(log, 2)
    copiers: dict[str, Copier] = {}
    for name in names:
        if (copier := _attempt(said, name, lambda name=name: Copier(folder, name))) is not None:
            copiers[name] = copier
    ended = False
    while not ended:
        ended = bool(select.select([sys.stdin], [], [], SWEEP_SECONDS)[0])
        for name in list(copiers):
            if _attempt(said, name, lambda name=name: (copiers[name].sweep(), True)) is None:
                del copiers[name]
    for name, copier in copiers.items():
        _attempt(said, name, lambda copier=copier: (copier.close(), True))


def _attempt(said: TextIO, name: str, call: Any) -> Any:
    """What a call gives, or none after a line on what went wrong."""
    try:
        return call()
    except BlockingIOError:
        said.write(f"tracker {name}: another process is copying to it already\n")
    except Exception as error:
        traceback.print_exc()
        said.write(f"tracker {name} stopped ({type(error).__name__}: {' '.join(str(error).split())[:200]})\n")
    return None


def _trial_folders(folder: Path) -> list[Path]:
    """Of a study its trials, else the trial that the folder is."""
    return sorted((folder / "trials").iterdir()) if (folder / "trials").is_dir() else [folder]


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().split("\n")[:-1] if line]


def _name(trial: str, config: dict[str, Any]) -> str:
    model = config["model"]
    size = model["input_size"]
    size = "x".join(map(str, size)) if isinstance(size, list) else size
    return f"{model['name']}-p{model['patch_size']}-{size}-seed{config['random_seed']}-{trial}"


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys joined by dots; lists as text."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = str(value) if isinstance(value, list) else value
    return flat


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _replace(path: Path, text: str) -> None:
    part = path.with_suffix(".part")
    part.write_text(text)
    os.replace(part, path)


if __name__ == "__main__":
    main()
