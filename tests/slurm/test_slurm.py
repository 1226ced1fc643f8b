"""Studies on a real Slurm that start_slurm.sh has started: job arrays requeued, signalled, cancelled and left alone.

The array's jobs run on this machine's cores, so these tests take minutes.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from safetensors import safe_open

from patchscale.studies import RunDirectory, Trial, load_study, results
from tests.needs import absent
from tests.studies.small import SMALL, TIMES

pytestmark = pytest.mark.slurm

STEPS = 600
SETTINGS = [*SMALL, f"recipe.steps={STEPS}", "recipe.precision=float32", "axes.random_seed=[0,1,2,3]"]
PATIENCE = 1800


@pytest.fixture(scope="module", autouse=True)
def cluster() -> None:
    if shutil.which("sinfo") is None or subprocess.run(["sinfo"], capture_output=True).returncode:
        absent("no Slurm answers here; run tests/slurm/start_slurm.sh as root")


def command(out: Path, *words: str, settings: list[str] = SETTINGS) -> list[str]:
    changes = [word for setting in settings for word in ("--set", setting)]
    return [sys.executable, "-m", "patchscale", "study", "run", "quickstart", "--out", str(out), *changes, *words]


def start(out: Path, *words: str, settings: list[str] = SETTINGS) -> subprocess.Popen[str]:
    ignored = signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        command(out, "--launcher", "slurm", "--slurm", "time=30", *words, settings=settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    signal.signal(signal.SIGINT, ignored)
    return process


def finish(process: subprocess.Popen[str]) -> str:
    printed, _ = process.communicate(timeout=PATIENCE)
    return printed


def wait_for(what: str, found: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s for {what}"
        time.sleep(0.1)


def slurm(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def trials(settings: list[str] = SETTINGS) -> list[Trial]:
    return load_study("quickstart", settings=settings).trials()


def step(run: RunDirectory, trial: Trial) -> int:
    return (run.progress(trial.id) or {"step": 0})["step"]


def job(run: RunDirectory, trial: Trial) -> str:
    note = run.job(trial.id)
    assert note is not None
    return note.job


def saved_step(run: RunDirectory, trial: Trial) -> int:
    with safe_open(run.trial_folder(trial.id) / "checkpoints" / "last.safetensors", framework="pt") as file:
        return json.loads(file.metadata()["state"])["step"]


def starts(run: RunDirectory, trial: Trial) -> int:
    log = run.path / "slurm" / f"{job(run, trial)}_0_log.out"
    return log.read_text().count("Starting with JobEnvironment")


def bring_forward(name: str) -> None:
    """Slurm lets a requeued job wait for two minutes; the test does not."""
    wait_for(f"{name} to be queued again", lambda: slurm("squeue", "-h", "-j", name, "-o", "%T") == "PENDING\n")
    slurm("scontrol", "update", f"JobId={name}", "StartTime=now")


def test_an_array_survives_requeue_signal_and_ctrl_c_and_gives_the_local_table(tmp_path: Path) -> None:
    local, out = tmp_path / "local", tmp_path / "slurm"
    cores = str(len(os.sched_getaffinity(0)))
    subprocess.run(command(local, "--workers", cores), check=True, stdout=subprocess.DEVNULL)

    launcher = start(out)
    run = RunDirectory(out)
    every = trials()
    assert len(every) == 8
    hit: list[Trial] = []
    for act in (["scontrol", "requeue"], ["scancel", "--signal=USR1"]):

        def in_the_middle() -> list[Trial]:
            running = [trial for trial in every if trial not in hit and 0 < step(run, trial) < STEPS // 2]
            return [trial for trial in running if run.state(trial) == "running"]

        wait_for("a trial in the middle", in_the_middle)
        hit.append(in_the_middle()[0])
        # scancel sends its signal more than once, and complains if the job is on its way back into the queue by then.
        subprocess.run([*act, job(run, hit[-1])], check=False)
    for trial in hit:
        wait_for("the trial to stop", lambda trial=trial: run.state(trial) != "running")
        assert 0 < saved_step(run, trial) < STEPS
        bring_forward(job(run, trial))

    launcher.send_signal(signal.SIGINT)
    printed = finish(launcher)
    assert launcher.returncode == 130, printed
    array = run.job(every[0].id).array
    assert f"go on; to end them: scancel {array}" in printed
    assert slurm("squeue", "-h", "-j", array), "Ctrl-C ended the jobs"

    again = start(out)
    printed = finish(again)
    assert again.returncode == 0, printed
    assert "submitted" not in printed
    assert {run.job(trial.id).array for trial in every} == {array}
    assert {trial.id: starts(run, trial) for trial in every} == {t.id: 2 if t in hit else 1 for t in every}
    pd.testing.assert_frame_equal(results(out).drop(columns=TIMES), results(local).drop(columns=TIMES))
    assert (out / "report.html").exists()
    for trial in every:
        log = run.trial_folder(trial.id) / "worker.log"
        assert log.read_text() == ""


def test_a_cancelled_trial_is_named_and_submitted_by_the_next_command_alone(tmp_path: Path) -> None:
    settings = [*SETTINGS, "recipe.steps=1500", "axes.patch_size=[8]", "axes.random_seed=[0,1]"]
    launcher = start(tmp_path, "--workers", "1", settings=settings)
    run, (first, second) = RunDirectory(tmp_path), trials(settings)
    wait_for("the first trial", lambda: step(run, first) > 0)
    slurm("scancel", job(run, first))
    printed = finish(launcher)
    assert launcher.returncode == 1, printed
    assert "cancelled" in printed
    assert run.state(first) == "cancelled"
    assert run.state(second) == "done"
    shown = subprocess.run(
        [sys.executable, "-m", "patchscale", "study", "status", str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "1 cancelled" in shown
    assert f"job {job(run, first)}" in shown
    before, stopped_at = job(run, second), saved_step(run, first)
    assert stopped_at > 0
    again = start(tmp_path, settings=settings)
    printed = finish(again)
    assert again.returncode == 0, printed
    assert "submitted 1 trial" in printed
    assert job(run, second) == before
    assert len(results(tmp_path)) == 2


def test_a_submission_that_was_cut_short_is_found_again(tmp_path: Path) -> None:
    settings = [*SETTINGS, "recipe.steps=300", "axes.patch_size=[8]", "axes.random_seed=[0,1]"]
    launcher = start(tmp_path, settings=settings)
    run, both = RunDirectory(tmp_path), trials(settings)
    wait_for("the submission", lambda: all((note := run.job(t.id)) and note.array for t in both))
    launcher.kill()
    launcher.communicate()
    notes = {trial.id: run.job(trial.id) for trial in both}
    for trial_id, note in notes.items():
        run.write_job(trial_id, note.model_copy(update={"array": None}))
    again = start(tmp_path, settings=settings)
    printed = finish(again)
    assert again.returncode == 0, printed
    assert "submitted" not in printed
    assert {trial.id: run.job(trial.id) for trial in both} == notes


def test_jobs_that_slurm_refuses_are_one_line(tmp_path: Path) -> None:
    refused = start(tmp_path, "--slurm", "partition=nowhere")
    printed = finish(refused)
    assert refused.returncode == 2, printed
    assert "error: Slurm refuses the jobs" in printed.splitlines()[-1]
    assert "nowhere" in printed or "partition" in printed
