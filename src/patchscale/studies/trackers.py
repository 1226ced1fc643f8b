"""Trackers as mirrors of metrics.jsonl: started beside a run, stopped after it, never able to stop it."""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from patchscale.errors import InputError
from patchscale.studies import mirror

SECONDS_TO_END = 60.0


def check_trackers(names: Sequence[str]) -> None:
    """Refuses trackers that cannot be written to.

    Raises:
        InputError: an unknown name, or a package that is not installed.
    """
    for name in names:
        if name not in mirror.TRACKERS:
            raise InputError(f"unknown tracker {name!r}; use one of {', '.join(mirror.TRACKERS)}")
        if importlib.util.find_spec(name) is None:
            raise InputError(f"tracker {name} is not installed; pip install 'patchscale[trackers]'")


@contextlib.contextmanager
def mirrored(folder: Path, names: Sequence[str], say: Callable[[str], None]) -> Iterator[None]:
    """Copies metrics lines of a study's or a trial's folder to trackers while the block runs; files lie in `trackers/`.

    Args:
        folder: a run directory, or the folder of one trial.
        names: of trackers; none copies nothing.
        say: receives a line for each tracker that fails; the block goes on.
    """
    if not names:
        yield
        return
    command = [sys.executable, "-P", mirror.__file__, str(folder), *dict.fromkeys(names)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdin is not None
    reader = threading.Thread(target=_relay, args=(process, say), daemon=True)
    reader.start()
    try:
        yield
    finally:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        try:
            code = process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        reader.join()
        if code:
            say(f"warning: trackers ended with exit code {code}; see {folder / 'trackers' / 'mirror.log'}")


def _relay(process: subprocess.Popen[str], say: Callable[[str], None]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            say(f"warning: {line.strip()}")
