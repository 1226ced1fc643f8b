"""Where a trial stands, from files alone and with what a cluster says: the state machine of a run directory."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from patchscale.files import write_json
from patchscale.studies import RunDirectory, Trial, load_study
from patchscale.studies.run_directory import Standing, TrialBusy
from patchscale.studies.slurm.note import JobNote
from patchscale.studies.slurm.queue import Job

NOTE = JobNote(name="patchscale-1234", index=3, size=8, step=0, submitted="2026-01-01T00:00:00+00:00")


@pytest.fixture
def trial() -> Trial:
    return load_study("quickstart").trials()[0]


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def test_files_alone_tell_a_local_trial(run: RunDirectory, trial: Trial) -> None:
    folder = run.trial_folder(trial.id)
    assert run.standing(trial) == ("waiting", "")
    with run.hold(trial.id):
        assert run.state(trial) == "running"
        (folder / "metrics.jsonl").write_text("")
    assert run.standing(trial) == ("interrupted", "")
    run.write_failure(trial.id, "the loss was not finite")
    assert run.standing(trial) == ("failed", "the loss was not finite")
    write_json(folder / "result.json", {})
    assert run.standing(trial) == ("done", "")


def test_a_submission_under_way_is_not_queued_yet(run: RunDirectory, trial: Trial) -> None:
    run.write_job(trial.id, NOTE)
    assert run.standing(trial) == ("waiting", "")
    assert run.standing(trial, {}) == ("waiting", "")


@pytest.mark.parametrize(
    ("job", "standing"),
    [
        (Job("PENDING", "Resources"), ("queued", "job 17_3 (Resources)")),
        (Job("PENDING", "BeginTime"), ("queued", "job 17_3 (BeginTime)")),
        (Job("REQUEUED"), ("queued", "job 17_3")),
        (Job("RUNNING", "None"), ("running", "job 17_3")),
        (Job("COMPLETING", "None"), ("running", "job 17_3")),
        (Job("CANCELLED", "None"), ("cancelled", "job 17_3")),
        (Job("TIMEOUT", "TimeLimit"), ("waiting", "job 17_3 ended: TIMEOUT")),
        (Job("OUT_OF_MEMORY", "OutOfMemory"), ("waiting", "job 17_3 ended: OUT_OF_MEMORY")),
        (Job("NODE_FAIL", "NodeDown"), ("waiting", "job 17_3 ended: NODE_FAIL")),
        (None, ("waiting", "job 17_3 ended: UNKNOWN")),
    ],
)
def test_slurm_tells_of_a_job_that_no_process_holds(
    run: RunDirectory, trial: Trial, job: Job | None, standing: Standing
) -> None:
    run.write_job(trial.id, NOTE.model_copy(update={"array": "17"}))
    assert run.standing(trial, {"17_3": job} if job else {"17_2": Job("RUNNING")}) == standing


def test_files_weigh_more_than_the_queue(run: RunDirectory, trial: Trial) -> None:
    run.write_job(trial.id, NOTE.model_copy(update={"array": "17"}))
    gone = {"17_3": Job("TIMEOUT")}
    with run.hold(trial.id):
        assert run.standing(trial, gone) == ("running", "job 17_3")
    (run.trial_folder(trial.id) / "metrics.jsonl").write_text("")
    assert run.standing(trial, gone) == ("interrupted", "job 17_3 ended: TIMEOUT")
    assert run.standing(trial, {"17_3": Job("PENDING", "BeginTime")}).state == "queued"
    run.write_failure(trial.id, "the disk is full")
    assert run.standing(trial, {"17_3": Job("COMPLETING")}) == ("failed", "the disk is full")
    write_json(run.trial_folder(trial.id) / "result.json", {})
    assert run.standing(trial, gone) == ("done", "")


def test_without_slurm_a_submitted_trial_counts_as_queued_until_its_end_is_noted(
    run: RunDirectory, trial: Trial
) -> None:
    note = NOTE.model_copy(update={"array": "17"})
    run.write_job(trial.id, note)
    assert run.standing(trial) == ("queued", "job 17_3")
    run.write_job(trial.id, note.model_copy(update={"ended": "CANCELLED"}))
    assert run.standing(trial) == ("cancelled", "job 17_3")
    run.write_job(trial.id, note.model_copy(update={"ended": "TIMEOUT"}))
    assert run.standing(trial) == ("waiting", "job 17_3 ended: TIMEOUT")
    assert run.standing(trial, {"17_3": Job("RUNNING")}) == ("waiting", "job 17_3 ended: TIMEOUT")


def test_a_lock_dies_with_its_process(run: RunDirectory, trial: Trial) -> None:
    folder = run.trial_folder(trial.id)
    folder.mkdir(parents=True)
    hold = f"import fcntl; f = open({str(folder / 'lock')!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(1); input()"
    command = [sys.executable, "-u", "-c", hold]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert run.state(trial) == "running"
        process.kill()
    assert run.state(trial) == "waiting"


def test_a_look_at_a_trial_does_not_make_it_busy(run: RunDirectory, trial: Trial) -> None:
    folder = run.trial_folder(trial.id)
    folder.mkdir(parents=True)
    look = (folder / "lock").open("w")
    fcntl.flock(look, fcntl.LOCK_SH)
    over = threading.Timer(0.1, look.close)
    over.start()
    with run.hold(trial.id):
        assert run.state(trial) == "running"
        with pytest.raises(TrialBusy, match="another process is training in"), run.hold(trial.id):
            pass
    over.join()


def test_one_job_alone_has_no_place_in_an_array() -> None:
    assert NOTE.model_copy(update={"array": "17"}).job == "17_3"
    assert NOTE.model_copy(update={"array": "17", "index": 0, "size": 1}).job == "17"
