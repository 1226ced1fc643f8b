"""Runs of one trial by several processes: imports once, forks what torchrun would start.

`python -m tests.training.processes FOLDER`, with FOLDER/runs.json: a list of {config, out, size, parallel} and, to
stop after a step, {stop}.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_all(folder: Path, runs: list[dict]) -> None:
    """Runs every trial to its end, one after the other, in a process of its own; fails if one fails."""
    (folder / "runs.json").write_text(json.dumps(runs))
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.processes", str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def fork_processes(size: int, work) -> list[int]:
    """Runs `work()` in `size` forked processes of one trial; returns their process numbers."""
    port, children = free_port(), []
    for rank in range(size):
        child = os.fork()
        if not child:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            code = 1
            try:
                work()
                code = 0
            except BaseException as error:
                print(f"process {rank}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            finally:
                sys.stdout.flush()
                os._exit(code)
        children.append(child)
    return children


def main() -> None:
    import torch

    from patchscale.training import Keep, Stopped, TrialConfig, train

    torch.set_num_threads(1)
    for run in json.loads((Path(sys.argv[1]) / "runs.json").read_text()):

        def work(run=run) -> None:
            config, seen = TrialConfig.model_validate(run["config"]), []

            def should_stop() -> bool:
                return seen[-1] == run.get("stop")

            options = {"parallel": run["parallel"], "keep": Keep(last=True), "should_stop": should_stop}
            with contextlib.suppress(Stopped):
                train(config, Path(run["out"]), report=lambda progress: seen.append(progress.step), **options)

        for child in fork_processes(run["size"], work):
            assert os.waitpid(child, 0)[1] == 0, run


if __name__ == "__main__":
    main()
