"""Kills a training run at random instants, resumes it each time, and compares it with a run that was left alone.

`python -m tests.training.torture` (`make torture`): one process, then two, killed 25 times each; every tensor of the
final checkpoint (weights, optimizer, average), every logged number and the result must be equal, bit for bit. There are
no generator states to compare: every draw is a function of random seed, step and sample. A checkpoint is written after
every step and takes longer than the step, so that many kills fall into its writing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from safetensors import safe_open

from patchscale.training import Keep, TrialConfig, make_task, read_metrics, train
from tests.training.processes import ROOT, fork_processes
from tests.training.trials import small_trial, without_time

STEPS = 130
PATIENCE_SECONDS = 300.0
CASES = {
    "one": (1, "ddp", False),
    "torchrun": (2, "ddp", True),
    "ddp": (2, "ddp", False),
    "fsdp": (2, "fsdp", False),
}
"""Processes, placement, and whether torchrun starts them or they are forked (which is quicker)."""


def heavy_trial() -> TrialConfig:
    """About 7 MB of checkpoint, few FLOPs."""
    options = {"depth": 2, "embed_dim": 128, "num_heads": 2}
    model = small_trial().model.model_dump() | {"options": options}
    return small_trial(model=model, recipe={"steps": STEPS, "accumulation": 2})


def live(folder: Path, parallel: str) -> None:
    """One life of a process: trains to the end, unless it is killed."""
    torch.set_num_threads(1)
    train(heavy_trial(), folder, parallel=parallel, checkpoint_seconds=0, keep=Keep(last=True))


class Life:
    """The processes of one attempt, forked or started by torchrun."""

    def __init__(self, folder: Path, size: int, parallel: str, torchrun: bool) -> None:
        if torchrun:
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
            command += ["-m", "tests.training.torture", "--live", str(folder), "--parallel", parallel]
            with (folder.parent / "torchrun.log").open("ab") as log:
                self.agent = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
            self.waiting = [self.agent.pid]
        else:
            self.agent = None
            self.waiting = fork_processes(size, lambda: live(folder, parallel))

    def kill(self, chance: random.Random) -> str:
        """SIGKILL for one process or for all of them; the others must end by themselves."""
        workers = _children(self.agent.pid) if self.agent else self.waiting
        everyone = [*workers, *([self.agent.pid] if self.agent else [])]
        if len(workers) > 1 and chance.random() < 0.5:
            victims, what = [chance.choice(workers)], "one of two"
        else:
            victims, what = everyone, "all"
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        self.wait()
        return what

    def wait(self) -> bool:
        """Whether all ended well."""
        statuses = [os.waitpid(process, 0)[1] for process in self.waiting]
        self.waiting = []
        return not any(statuses)


def torment(
    folder: Path, *, kills: int, pace: float, size: int, parallel: str = "ddp", torchrun: bool = False, seed: int = 0
) -> dict[str, int]:
    """Trains in `folder`, killed `kills` times; returns how often what was hit.

    Every third kill comes at a random moment of the start, the others at a random moment of a random later step.

    Args:
        pace: seconds of a step with its checkpoint.
    """
    chance, counts = random.Random(seed), {"while writing": 0, "one of two": 0, "all": 0}
    folder.mkdir(parents=True)
    for number in range(kills):
        life = Life(folder, size, parallel, torchrun)
        if number % 3:
            _await_steps(folder, _step(folder) + chance.randint(1, 2))
            time.sleep(chance.uniform(0, 1.5 * pace))
        else:
            time.sleep(chance.uniform(0, 10 * pace))
        assert _step(folder) < STEPS, "the run ended before it was killed often enough"
        counts[life.kill(chance)] += 1
        counts["while writing"] += bool(list(folder.glob("checkpoints/.*.tmp")))
    assert Life(folder, size, parallel, torchrun).wait()
    return counts


def assert_equal(one: Path, other: Path) -> int:
    """Compares everything that two runs leave behind; returns the number of tensors."""
    lines = [[without_time(line) for line in read_metrics(folder / "metrics.jsonl")] for folder in (one, other)]
    assert lines[0] == lines[1], "logged numbers differ"
    rows = [without_time(json.loads((folder / "result.json").read_text())) for folder in (one, other)]
    assert rows[0] == rows[1], "results differ"
    count = 0
    for name in ("checkpoints/last.safetensors", "weights.safetensors"):
        with safe_open(one / name, "pt") as a, safe_open(other / name, "pt") as b:
            assert set(a.keys()) == set(b.keys())
            for key in a.keys():  # noqa: SIM118
                assert torch.equal(a.get_tensor(key), b.get_tensor(key)), f"{name}: {key} differs"
                count += 1
    assert not list(other.rglob(".*.tmp")), "half-written files are left"
    return count


def _step(folder: Path) -> int:
    lines = read_metrics(folder / "metrics.jsonl")
    return lines[-1]["step"] if lines else 0


def _await_steps(folder: Path, step: int) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while _step(folder) < min(step, STEPS - 1):
        assert time.monotonic() < end, f"no progress in {folder}"
        time.sleep(0.005)


def _children(agent: int) -> list[int]:
    listed = Path(f"/proc/{agent}/task/{agent}/children").read_text()
    return [int(child) for child in listed.split()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", nargs="*", choices=CASES)
    parser.add_argument("--live", type=Path)
    parser.add_argument("--parallel", default="ddp")
    arguments = parser.parse_args()
    if arguments.live:
        live(arguments.live, arguments.parallel)
        return
    make_task(heavy_trial()).build_model()  # imports what every forked life needs
    with tempfile.TemporaryDirectory() as base:
        for name in arguments.cases or CASES:
            size, parallel, torchrun = CASES[name]
            whole, torn = Path(base, name, "whole"), Path(base, name, "torn")
            whole.mkdir(parents=True)
            started = time.monotonic()
            assert Life(whole, size, parallel, torchrun=False).wait()
            pace = (time.monotonic() - started) / STEPS
            form = {"size": size, "parallel": parallel, "torchrun": torchrun, "seed": arguments.seed}
            counts = torment(torn, kills=arguments.kills, pace=pace, **form)
            tensors = assert_equal(whole, torn)
            hits = ", ".join(f"{count} {what}" for what, count in counts.items())
            print(f"{name}: {arguments.kills} kills ({hits}); {tensors} tensors and every number equal", flush=True)


if __name__ == "__main__":
    main()
