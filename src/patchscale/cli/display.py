"""What a study shows on a terminal: progress with the time left, one line a finished trial, and a summary."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from patchscale.studies import Outcome, RunDirectory, Study, Trial
from patchscale.studies.counting import UNKNOWN_CLASSES, planned
from patchscale.studies.estimate_time import images_per_second, seconds_left
from patchscale.studies.run_directory import Standing
from patchscale.studies.slurm.queue import read_queue

TERMINAL_SECONDS = 0.5
LOG_SECONDS = 10.0
MIB = 2**20
PIPED_WIDTH = 200
"""Columns of a table that no terminal limits."""


def duration(seconds: float | None) -> str:
    """`4:05`, `1:02:03`, or `unknown`."""
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class StudyDisplay:
    """A live block on a terminal; elsewhere a line every ten seconds."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.console = Console(stderr=quiet, highlight=False, soft_wrap=not sys.stdout.isatty())
        self.live: Live | None = None
        self.shown = 0.0
        self.finished: set[str] | None = None

    def say(self, line: str) -> None:
        self.console.print(line, markup=False)

    def watch(self, run: RunDirectory, trials: list[Trial], running: set[str], workers: int, waiting: str = "") -> None:
        """Draws the state of `trials`, at most twice a second on a terminal; `waiting` is said of those that wait."""
        done = {trial.id for trial in trials if run.result(trial.id) is not None}
        if self.finished is None:
            self.finished = set(done)
        for trial in trials:
            if trial.id in done - self.finished:
                self._say_finished(run, trial)
        self.finished = done
        pause = TERMINAL_SECONDS if self.console.is_terminal else LOG_SECONDS
        if time.monotonic() - self.shown < pause:
            return
        self.shown = time.monotonic()
        lines = [_running_line(run, trial) for trial in trials if trial.id in running]
        left = duration(seconds_left(run, trials, workers))
        head = ", ".join(filter(None, [f"{len(done)} of {len(trials)} trials done", waiting, f"time left {left}"]))
        if not self.console.is_terminal:
            self.say("; ".join([head, *lines]))
            return
        if self.live is None:
            self.live = Live(console=self.console, refresh_per_second=4)
            self.live.start()
        self.live.update(Text("\n".join([head, *("  " + line for line in lines)])))

    def _say_finished(self, run: RunDirectory, trial: Trial) -> None:
        row = run.result(trial.id)
        assert row is not None
        score = f", top-1 {100 * row['top1']:.1f} %" if "top1" in row else ""
        self.say(f"done  {trial.label}: test loss {row['test_loss']:.4f}{score}, {duration(row['seconds'])}")

    def close(self) -> None:
        """Ends the live block and gives the terminal back."""
        if self.live is not None:
            self.live.stop()
            self.live = None


def _running_line(run: RunDirectory, trial: Trial) -> str:
    note = run.progress(trial.id)
    if note is None:
        return f"{trial.label} starting"
    rate = images_per_second(trial, note)
    return f"{trial.label} step {note['step']}/{note['steps']} loss {note['loss']:.3f} {rate:.0f} images/s"


def print_plan(study: Study, *, as_json: bool) -> None:
    """The trials of a study with tokens, parameters, FLOPs, memory and predicted hours, and the totals."""
    rows, data = planned(study)
    flops, hours = (_total(rows, name) for name in ("train_flops", "device_hours"))
    if as_json:
        content = {"study": study.model_dump(mode="json"), "classes": data.classes, "train_size": data.train}
        totals = {"train_flops": flops, "a100_hours": hours}
        print(json.dumps({**content, "trials": rows, "total": totals}, indent=2))
        return
    titles = {
        "memory_bytes_per_image": "MiB/image",
        "device_hours": "A100 hours",
        "flops_per_image": "FLOPs/image",
        "train_flops": "FLOPs",
    }
    title = f"{study.title} ({study.scale}): {len(rows)} trials"
    table = Table(*(titles.get(name, name) for name in rows[0]), title=title)
    for row in rows:
        row |= {"memory_bytes_per_image": row["memory_bytes_per_image"] / MIB}
        table.add_row(*(_short(value) for value in row.values()))
    Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)
    print(f"recipe: {study.recipe.model_dump_json(exclude_defaults=True)}")
    counted = f"heads counted with {UNKNOWN_CLASSES} classes until it is loaded"
    known = f"{data.classes} classes, {data.train:,} training images" if data.classes and data.train else counted
    if study.counting is None:
        print(f"data: {study.data.name}, {known}; nothing was run")
        if flops and hours:
            print(f"total: {flops:.3g} training FLOPs, {hours:,.3g} A100 hours by table 6's efficiencies")
    else:
        print(f"data: {study.data.name}, {known}; a study of cost: trials are counted, not trained")


def _short(value: object) -> str:
    """Three digits of what is large or not whole."""
    large = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) >= 1e6
    return f"{value:.3g}" if large or isinstance(value, float) else str(value)


def _total(rows: list[dict], name: str) -> float | None:
    """The sum of a column; none where a trial lacks it."""
    values = [row[name] for row in rows]
    return None if None in values else sum(values)


def print_status(folder: Path, *, as_json: bool) -> None:
    """One line a trial, then the time left."""
    run = RunDirectory(folder)
    study, about = run.read_study()
    trials = study.trials()
    standings = ask_standings(run, trials)
    left = seconds_left(run, trials, about["sharing"]["workers"])
    if as_json:
        rows = []
        for trial in trials:
            note, standing = run.job(trial.id), standings[trial.id]
            rows.append({"trial": trial.id, **trial.axes, "state": standing.state, "progress": run.progress(trial.id)})
            rows[-1] |= {"job": note.job if note and note.array else None, "reason": run.failure(trial.id)}
            rows[-1] |= {"detail": standing.detail or None}
        print(json.dumps({"study": study.name, "seconds_left": left, "trials": rows}, indent=2))
        return
    for trial in trials:
        state, detail = standings[trial.id]
        line = _running_line(run, trial) if run.progress(trial.id) else trial.label
        print(f"{state:<12} {trial.id}  {line}" + (f": {detail}" if detail else ""))
    states = [standing.state for standing in standings.values()]
    counts = {state: states.count(state) for state in dict.fromkeys(states)}
    print(", ".join(f"{count} {state}" for state, count in counts.items()) + f"; time left {duration(left)}")


def ask_standings(run: RunDirectory, trials: list[Trial]) -> dict[str, Standing]:
    """Where every trial stands; Slurm is asked where it was given some and its commands are here."""
    notes = [note for trial in trials if (note := run.job(trial.id)) is not None]
    queue = read_queue(note.array for note in notes if note.array and not note.ended) if notes else None
    return {trial.id: run.standing(trial, queue) for trial in trials}


def print_outcome(outcome: Outcome, page: Path | None, *, as_json: bool) -> None:
    """Laws, differences and inversions in sentences, failures with reasons, and where the report lies."""
    if as_json:
        content = {"out": str(outcome.run.path), "laws": outcome.laws, "failed": outcome.failed}
        print(json.dumps(content | {"report": str(page) if page else None}, indent=2))
        return
    if outcome.laws:
        for law in outcome.laws["laws"]:
            if law["form"] == outcome.study.laws.forms[0]:
                print(f"law   {law['sentence']}")
        for found in outcome.laws["differences"]:
            print(f"      {found['sentence']}")
        if outcome.laws["crossings"]:
            print(f"      {len(outcome.laws['crossings'])} crossings in training budget: see the report")
        for note in outcome.laws["notes"]:
            print(f"note  {note}")
        print(f"table: {outcome.run.path / 'results.csv'}")
    for trial_id, reason in outcome.failed.items():
        print(f"failed {trial_id}: {reason}", file=sys.stderr)
    if page:
        print(f"report: {page.resolve()}")
