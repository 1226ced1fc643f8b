"""The house rules that a machine can hold: one-way imports, small files, what loads torch and what does not."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "patchscale"

ALLOWED = {
    "errors": set(),
    "files": set(),
    "tokens": {"errors"},
    "laws": {"errors", "files"},
    "cost": {"errors", "files", "laws"},
    "mixers": {"errors", "files", "tokens"},
    "models": {"errors", "files", "tokens", "mixers", "cost"},
    "data": {"errors", "files"},
    "tasks": {"errors", "files", "models", "data", "tokens"},
    "training": {"errors", "files", "tasks", "models", "data", "cost", "tokens"},
    "studies": {"errors", "files", "training", "tasks", "models", "data", "laws", "cost", "tokens"},
    "report": {"errors", "files", "studies", "training", "tasks", "models", "data", "laws", "cost", "tokens"},
}
"""What each room may import; `cli` may import everything, and nothing may import `cli`."""


def imported_rooms(file: Path) -> set[str]:
    """Rooms of patchscale that a file imports, anywhere in it."""
    names = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} uses a relative import; write the room's name"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return {name.split(".")[1] for name in names if name.startswith("patchscale.")} - {"__version__"}


def room_of(file: Path) -> str:
    return file.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_imports_run_one_way(room: str) -> None:
    files = [file for file in SOURCE.rglob("*.py") if room_of(file) == room]
    assert files
    for file in files:
        beyond = imported_rooms(file) - ALLOWED[room] - {room}
        assert not beyond, f"{file.relative_to(SOURCE)} imports {sorted(beyond)}, which {room} may not"


def test_every_room_is_known_to_the_rule() -> None:
    assert {room_of(file) for file in SOURCE.rglob("*.py")} == set(ALLOWED) | {"cli", "__init__", "__main__"}


def test_files_stay_readable() -> None:
    too_long = {str(f.relative_to(SOURCE)): n for f in SOURCE.rglob("*.py") if (n := f.read_text().count("\n")) > 400}
    assert not too_long


@pytest.mark.parametrize(
    "code",
    [
        "import patchscale",
        "import patchscale.laws",
        "import patchscale.cost",
        "import patchscale.cli",
        "from patchscale.cli import main; sys.argv = ['patchscale', '--help']; main()",
        "from patchscale.cli import main; sys.argv = ['patchscale', 'plan', '--help']; main()",
        "from patchscale.cli import main; sys.argv = ['patchscale', 'cost', '--model', 'deit_tiny_patch16']; main()",
    ],
)
def test_light_commands_load_no_torch(code: str) -> None:
    script = (
        f"import sys, atexit\natexit.register(lambda: print('HEAVY' if 'torch' in sys.modules else 'LIGHT'))\n{code}"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "LIGHT", done.stdout + done.stderr
    assert done.returncode == 0, done.stderr


def test_the_benchmark_of_long_pages_needs_no_argument(tmp_path: Path) -> None:
    """`make bench` gives none; without the pages it says what is missing."""
    script = SOURCE.parents[1] / "benchmarks" / "long_pages.py"
    environment = {**os.environ, "PATCHSCALE_DATA": str(tmp_path)}
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, env=environment)
    assert done.stderr.splitlines()[-1].endswith(
        f"{tmp_path}/doc-pages does not exist; set PATCHSCALE_DATA to the folder that holds doc-pages"
    )
