"""Imports torch once and forks one child per trial: `python -m patchscale.studies.nursery RUN_DIRECTORY GPUS`.

It reads lines `slot trial-as-JSON` on standard input and answers lines `trial-id exit-code`; when its input ends, it
stops its children at a step boundary and ends. It must not start computing threads or touch a GPU before it forks.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import traceback
from pathlib import Path

from patchscale.studies.run_directory import RunDirectory
from patchscale.studies.schema import Trial
from patchscale.studies.worker import CRASHED, run_trial

POLL_SECONDS = 0.1


def main() -> None:
    run = RunDirectory(Path(sys.argv[1]))
    gpus = int(sys.argv[2])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Who stops the whole process group stops the starter too, which closes this input. Blocked rather than ignored:
    # a child that is asked to stop before it listens finds the signal waiting.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    children: dict[int, str] = {}
    pending = b""
    while True:
        readable, _, _ = select.select([sys.stdin], [], [], POLL_SECONDS)
        if readable:
            received = os.read(sys.stdin.fileno(), 65_536)
            if not received:
                break
            *lines, pending = (pending + received).split(b"\n")
            for line in lines:
                slot, text = line.decode().split(" ", 1)
                trial = Trial.model_validate_json(text)
                children[_fork(run, trial, int(slot), gpus)] = trial.id
        _answer_for_ended(children)
    for child in children:
        os.kill(child, signal.SIGTERM)
    for child in children:
        os.waitpid(child, 0)


def _answer_for_ended(children: dict[int, str]) -> None:
    for child in list(children):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            print(children.pop(child), os.waitstatus_to_exitcode(status), flush=True)


def _fork(run: RunDirectory, trial: Trial, slot: int, gpus: int) -> int:
    child = os.fork()
    if child:
        return child
    code = CRASHED
    try:
        if gpus:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            names = visible.split(",") if visible else [str(number) for number in range(gpus)]
            os.environ["CUDA_VISIBLE_DEVICES"] = names[slot % len(names)]
        log = os.open(run.trial_folder(trial.id) / "worker.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        code = run_trial(run, trial)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
