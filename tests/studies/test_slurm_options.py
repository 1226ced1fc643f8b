"""What a user asks of Slurm, and what a job runs, told without a cluster."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from patchscale.errors import InputError
from patchscale.studies import RunDirectory, load_study, run
from patchscale.studies.slurm import attend
from patchscale.studies.slurm.attend import TrialJob, describe_death
from patchscale.studies.slurm.options import SlurmOptions, parse_options, require_slurm
from patchscale.studies.slurm.queue import find_array, read_queue

SETTINGS = ["axes.model=[deit_pico_patch16]", "axes.patch_size=[16]", "axes.input_size=[16]", "data.train_size=96"]
SETTINGS += ["data.test_size=40", "data.digit_size=8", "recipe.precision=float32"]


def test_resources_are_ours_and_the_rest_goes_to_sbatch_as_it_is() -> None:
    options = parse_options(["nodes=2", "gpus=4", "cpus=8", "--time=4:00:00", "partition=a,b", "save_seconds=60"])
    assert (options.nodes, options.gpus, options.cpus, options.processes_per_node) == (2, 4, 8, 4)
    assert options.sbatch() == {
        "gpus-per-node": 4,
        "time": "4:00:00",
        "partition": "a,b",
        "signal": "USR1@60",
        "requeue": True,
    }
    assert SlurmOptions().processes_per_node == 1
    assert parse_options(["processes=3"]).processes_per_node == 3


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("partition", "--slurm 'partition' is not key=value"),
        ("nodes=0", "--slurm: nodes: Input should be greater than or equal to 1 (value '0')"),
        ("gpus=many", "--slurm: gpus: Input should be a valid integer"),
        ("array=0-3", "--slurm array is set by the launcher"),
        ("job_name=mine", "--slurm job-name is set by the launcher"),
    ],
)
def test_what_does_not_fit_is_one_line(setting: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_options([setting])
    assert message in str(caught.value)


def test_missing_parts_say_how_to_get_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InputError, match=r"needs submitit; pip install 'patchscale\[slurm\]'"):
        require_slurm()
    monkeypatch.delitem(sys.modules, "submitit")
    pytest.importorskip("submitit")
    with pytest.raises(InputError, match="sbatch, srun, squeue, scontrol not found"):
        run(load_study("quickstart"), tmp_path / "run", slurm=SlurmOptions())
    assert not (tmp_path / "run").exists()


def program(folder: Path, name: str, script: str) -> None:
    """An executable that stands where a cluster has its own."""
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def test_the_queue_is_read_in_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program(tmp_path, "squeue", "echo '17_0|RUNNING|None'; echo '17_1|PENDING|Resources'; echo '18|TIMEOUT|TimeLimit'")
    queue = read_queue(["17", "18", "17"])
    assert queue == {"17_0": ("RUNNING", "None"), "17_1": ("PENDING", "Resources"), "18": ("TIMEOUT", "TimeLimit")}
    assert [job.phase for job in queue.values()] == ["running", "queued", "ended"]
    program(tmp_path, "squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert read_queue(["17"]) == {}
    assert find_array("patchscale-1234") is None
    program(tmp_path, "squeue", "echo 'Unable to contact slurm controller' >&2; exit 1")
    assert read_queue(["17"]) is None
    assert read_queue([]) == {}


def test_what_sbatch_refuses_is_one_line_and_the_trial_still_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program(tmp_path, "sbatch", "echo 'sbatch: error: invalid partition specified: moon' >&2; exit 1")
    for name in ("squeue", "srun", "scontrol"):
        program(tmp_path, name, "exit 0")
    study = load_study("quickstart", settings=SETTINGS)
    with pytest.raises(InputError, match="Slurm refuses the jobs: sbatch: error: invalid partition specified: moon"):
        run(study, tmp_path / "run", slurm=parse_options(["partition=moon"]))
    directory = RunDirectory(tmp_path / "run")
    assert {directory.state(trial) for trial in study.trials()} == {"waiting"}
    script = next((tmp_path / "run" / "slurm").glob(".submission_file_*.sh")).read_text()
    assert "#SBATCH --partition=moon" in script
    assert "--time" not in script


def job(tmp_path: Path, **changes: int) -> TrialJob:
    return TrialJob(
        **{"run": str(tmp_path), "trial_id": "abc", "nodes": 1, "processes": 1, "environment": {}} | changes
    )


def test_one_process_needs_no_torchrun(tmp_path: Path) -> None:
    assert job(tmp_path).command() == [
        *(sys.executable, "-m", "patchscale.studies.slurm.process"),
        *(str(tmp_path), "abc"),
    ]


def test_several_processes_are_one_torchrun_a_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    program(tmp_path, "scontrol", "echo node7; echo node8")
    for name, value in {"JOB_ID": "40017", "NODEID": "1", "JOB_NODELIST": "node[7-8]"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    command = job(tmp_path, nodes=2, processes=4).command()
    assert command[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert {"--nnodes=2", "--nproc-per-node=4", "--node-rank=1", "--master-addr=node7"} < set(command)
    assert "--master-port=20017" in command
    assert command[-4:] == ["-m", "patchscale.studies.slurm.process", str(tmp_path), "abc"]


def test_a_crash_is_written_down_for_the_trial(tmp_path: Path) -> None:
    folder = tmp_path / "trials" / "abc"
    folder.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", CRASH, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "failed"
    assert RunDirectory(tmp_path).failure("abc") == "its process ended with exit code 1; see worker.log"
    assert "config.json" in (folder / "worker.log").read_text()


CRASH = """
import sys
from patchscale.studies.slurm import attend
from patchscale.studies.slurm.attend import TrialJob
print(TrialJob(sys.argv[1], "abc", 1, 1, {})())
"""


def test_a_job_costs_its_node_no_import_of_torch(tmp_path: Path) -> None:
    cloudpickle = pytest.importorskip("cloudpickle")
    cloudpickle.register_pickle_by_value(attend)
    content = cloudpickle.dumps(job(tmp_path))
    cloudpickle.unregister_pickle_by_value(attend)
    script = "import pickle, sys; print(pickle.load(sys.stdin.buffer).trial_id, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], input=content, capture_output=True, check=True)
    assert done.stdout.split() == [b"abc", b"False"]


def test_deaths_have_words() -> None:
    assert describe_death(-signal.SIGKILL) == "its process was ended by SIGKILL; perhaps the machine ran out of memory"
    assert describe_death(70) == "its process ended with exit code 70; see worker.log"
