"""What is said of the machine a trial ran on."""

from __future__ import annotations

import subprocess
import sys

import torch

from patchscale.training.machine import peak_memory_bytes


def test_peak_memory_is_this_process_s_own():
    """Also where the process that started it had held more."""
    ask = "import torch; from patchscale.training.machine import peak_memory_bytes; "
    ask += "print(peak_memory_bytes(torch.device('cpu')))"
    held = torch.ones(2**30, dtype=torch.uint8)
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    own = peak_memory_bytes(torch.device("cpu"))
    assert int(done.stdout) < len(held) < own


def test_peak_memory_stays_when_memory_is_given_back():
    before = peak_memory_bytes(torch.device("cpu"))
    held = torch.ones(before + 2**28, dtype=torch.uint8)
    after = peak_memory_bytes(torch.device("cpu"))
    del held
    assert after >= before + 2**28
    assert peak_memory_bytes(torch.device("cpu")) > 0.99 * after  # the kernel counts in batches
