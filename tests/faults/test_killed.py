"""A worker or a rank that is killed: what was done stays done, and the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.training.processes import ROOT
from tests.training.test_resume import assert_equal_runs
from tests.training.trials import small_trial

pytestmark = pytest.mark.slow

LOST = """
import os, signal, sys
from pathlib import Path
from patchscale.training import train
from tests.training.processes import fork_processes
from tests.training.trials import small_trial

def work():
    def report(progress):
        if os.environ["RANK"] == sys.argv[2] and progress.step == 7:
            os.kill(os.getpid(), signal.SIGKILL)
    train(small_trial(), Path(sys.argv[1]), report=report, checkpoint_seconds=0, parallel=sys.argv[3])

for child in fork_processes(2, work):
    os.waitpid(child, 0)
"""


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
@pytest.mark.parametrize("victim", ["0", "1"])
def test_a_killed_rank_ends_the_others_with_one_line(tmp_path: Path, victim: str, parallel: str) -> None:
    script = [sys.executable, "-c", LOST]
    for name, number in (("whole", "none"), ("torn", victim), ("torn", "none")):
        done = subprocess.run([*script, tmp_path / name, number, parallel], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        if number == victim:
            said = [line for line in done.stderr.splitlines() if line.startswith("process")]
            assert len(said) == 1
            assert "ProcessLost: another of the 2 processes of this trial ended" in said[0]
            assert (tmp_path / name / "checkpoints" / "last.safetensors").exists()
            assert not (tmp_path / name / "result.json").exists()
    assert_equal_runs(tmp_path / "whole", tmp_path / "torn")


def test_torchrun_trains_through_the_command_line_and_says_everything_once(tmp_path: Path) -> None:
    (tmp_path / "trial.json").write_text(small_trial().model_dump_json())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "patchscale"]
    command += ["train", tmp_path / "trial.json", "--out", tmp_path / "out", "--parallel", "fsdp"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step 12/12") == 1
    assert done.stdout.count("results in") == 1
    row = json.loads((tmp_path / "out" / "result.json").read_text())
    assert row["device"].startswith("2 processes on ")
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("is finished already") == 1
    bad = subprocess.run([*command, "--set", "random_seed=3"], capture_output=True, text=True)
    assert bad.returncode == 1
    assert bad.stderr.count("holds another trial") == 1


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_torchrun_asked_to_stop_saves_at_a_step_and_goes_on(tmp_path: Path, parallel: str) -> None:
    """SIGTERM, as a cluster sends it to torchrun; no checkpoint would be due for minutes."""
    (tmp_path / "trial.json").write_text(small_trial(recipe={"steps": 300}).model_dump_json())
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "patchscale"]
    command += ["train", str(tmp_path / "trial.json"), "--parallel", parallel, "--out"]
    assert subprocess.run([*command, tmp_path / "whole"], capture_output=True).returncode == 0
    stopped = subprocess.Popen([*command, tmp_path / "torn"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    metrics, deadline = tmp_path / "torn" / "metrics.jsonl", time.monotonic() + 300
    while not metrics.exists() or metrics.read_text().count("\n") < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert not (tmp_path / "torn" / "checkpoints" / "last.safetensors").exists()
    stopped.send_signal(signal.SIGTERM)
    errors = stopped.communicate(timeout=300)[1].decode()
    assert stopped.returncode != 0
    assert errors.count("the same command continues") == 1
    assert (tmp_path / "torn" / "checkpoints" / "last.safetensors").exists()
    assert not (tmp_path / "torn" / "result.json").exists()
    assert subprocess.run([*command, tmp_path / "torn"], capture_output=True).returncode == 0
    assert_equal_runs(tmp_path / "whole", tmp_path / "torn")


def test_a_killed_worker_is_named_and_its_trial_goes_on(tmp_path: Path) -> None:
    words = "study run quickstart --workers 1 --set recipe.steps=300 --set data.train_size=64 --set data.test_size=20"
    words += " --set axes.model=[deit_pico_patch16] --set axes.patch_size=[16,8] --set axes.input_size=[16]"
    words += " --set axes.random_seed=[0] --set data.digit_size=8 --set recipe.warmup_steps=3 --out"
    command = [sys.executable, "-m", "patchscale", *words.split(), str(tmp_path / "run")]
    study = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(tmp_path.glob("run/trials/*/metrics.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    nursery = _children(study.pid)[0]
    os.kill(_children(nursery)[0], signal.SIGKILL)
    study.wait(timeout=600)
    states = [json.loads(file.read_text()) for file in tmp_path.glob("run/trials/*/failed.json")]
    assert [state["reason"] for state in states] == [
        "its process was ended by SIGKILL; perhaps the machine ran out of memory"
    ]
    assert len(list(tmp_path.glob("run/trials/*/result.json"))) == 1
    done = {file: file.read_bytes() for file in tmp_path.glob("run/trials/*/result.json")}
    assert subprocess.run(command, capture_output=True).returncode == 0
    assert len(list(tmp_path.glob("run/trials/*/result.json"))) == 2
    assert all(file.read_bytes() == content for file, content in done.items())


def _children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
