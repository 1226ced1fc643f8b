"""A disk that is full or turns read-only: one line, the last checkpoint intact, and the same call goes on later."""

from __future__ import annotations

from pathlib import Path

import pytest

from patchscale.errors import InputError
from patchscale.studies import RunDirectory, analyse, load_study, run
from patchscale.studies.single import train_single
from patchscale.training import Progress, train
from patchscale.training.checkpoint import read_checkpoint
from tests.faults.disks import Disk
from tests.training.test_resume import assert_equal_runs
from tests.training.trials import small_trial


@pytest.mark.parametrize(
    ("break_it", "mend_it", "reason"),
    [
        (Disk.fill, Disk.empty, "No space left on device"),
        (lambda disk: disk.set_writable(False), lambda disk: disk.set_writable(True), "Read-only file system"),
    ],
    ids=["full", "read-only"],
)
def test_a_disk_that_fails_costs_no_checkpoint(disk: Disk, whole: Path, break_it, mend_it, reason: str) -> None:
    config, folder = small_trial(), disk.folder / "trial"
    checkpoint, good = folder / "checkpoints" / "last.safetensors", []

    def report(progress: Progress) -> None:
        if progress.step == 5:
            good.append(checkpoint.read_bytes())
            break_it(disk)

    with pytest.raises(InputError, match=reason) as refused:
        train(config, folder, report=report, checkpoint_seconds=0)
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert checkpoint.read_bytes() == good[0]
    assert read_checkpoint(checkpoint, config.trial_id)[1]["step"] == 4
    with pytest.raises(InputError, match=reason):
        train(config, folder)
    assert checkpoint.read_bytes() == good[0]
    mend_it(disk)
    train(config, folder)
    assert_equal_runs(whole, folder)
    assert not list(folder.rglob(".*.tmp"))


def test_a_finished_trial_on_a_full_disk_stays_finished(disk: Disk) -> None:
    config, folder = small_trial(), disk.folder / "trial"
    row = train_single(config, folder, say=lambda line: None)
    before = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    disk.fill()
    assert train_single(config, folder, say=lambda line: None) == row
    assert {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()} == before
    disk.empty()


def test_a_folder_that_cannot_be_written_is_refused_before_training(disk: Disk) -> None:
    disk.set_writable(False)
    with pytest.raises(InputError, match=r"cannot write to .*Read-only file system"):
        train_single(small_trial(), disk.folder / "trial", say=lambda line: None)
    disk.set_writable(True)


def test_a_study_on_a_read_only_disk_is_one_line(disk: Disk) -> None:
    study, folder = load_study("overhead"), disk.folder / "run"
    run(study, folder)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    disk.set_writable(False)
    for call in (lambda: run(study, folder), lambda: analyse(RunDirectory(folder))):
        with pytest.raises(InputError, match=r"cannot write to .*run: Read-only file system"):
            call()
    disk.set_writable(True)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before
