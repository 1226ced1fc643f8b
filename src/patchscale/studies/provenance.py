"""Where numbers come from: command, commit, versions, machine, time."""

from __future__ import annotations

import datetime
import platform
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import patchscale

PACKAGES = ("patchscale", "torch", "torchvision", "timm", "numpy", "scipy", "pandas")


def provenance(device: str) -> dict[str, Any]:
    """Everything that a reader needs to repeat a study, JSON-able."""
    return {
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "commit": commit(),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": device,
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: version(name) for name in PACKAGES},
    }


def commit() -> str:
    """The commit of the checkout that patchscale runs from, `+changes` if files differ; else the package's version."""
    if shutil.which("git") is None or _git("ls-files", "--error-unmatch", "__init__.py").returncode != 0:
        return f"patchscale {patchscale.__version__}"
    changed = _git("status", "--porcelain", "--", ".").stdout.strip()
    return _git("rev-parse", "--short=12", "HEAD").stdout.strip() + ("+changes" if changed else "")


def _git(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["git", *words], cwd=Path(patchscale.__file__).parent, capture_output=True, text=True)
