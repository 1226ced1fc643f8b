"""Compiles the folder `cpp` once per machine with the C++ compiler that is there; the result lies in the cache folder.

No Python or torch headers are needed: the library takes pointers and strides and is called through ctypes.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

from patchscale.files import cache_folder, write_bytes

SOURCE = Path(__file__).with_name("cpp")
FLAGS = ("-O3", "-march=native", "-std=gnu++17", "-fno-math-errno", "-fopenmp", "-fPIC", "-shared")
COMPILERS = ("g++", "clang++", "c++")


class NativeUnavailable(RuntimeError):
    """Why there is no compiled library on this machine; the message is one line."""


def compiler() -> str | None:
    """The C++ compiler: $CXX, else the first of `COMPILERS` that is on the path."""
    named = os.environ.get("CXX")
    return named or next((found for name in COMPILERS if (found := shutil.which(name))), None)


def library() -> ctypes.CDLL:
    """The compiled library; the first call on a machine compiles for a few seconds.

    Raises:
        NativeUnavailable: no compiler, it failed, or its result cannot be loaded.
    """
    found = _attempt()
    if isinstance(found, str):
        raise NativeUnavailable(found)
    return found


@lru_cache(maxsize=1)
def _attempt() -> ctypes.CDLL | str:
    """The library, or why there is none; tried once per process."""
    command = compiler()
    if command is None:
        return "no C++ compiler was found (g++ or clang++, or the one named by CXX)"
    try:
        path = cache_folder() / "native" / f"ssd-{_key(command)}.so"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, _compiled(command), durable=False)
        return ctypes.CDLL(str(path))
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or "").strip().splitlines() or ["no message"]
        return f"{command} failed: {lines[0]}"
    except OSError as error:
        return f"{command}: {error}"


def _compiled(command: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        out, sources = Path(folder) / "ssd.so", [str(file) for file in sorted(SOURCE.glob("*.cpp"))]
        subprocess.run([command, *FLAGS, *sources, "-o", str(out)], check=True, capture_output=True, text=True)
        return out.read_bytes()


def _key(command: str) -> str:
    """What the compiled code depends on: source, flags, compiler and processor."""
    version = subprocess.run([command, "--version"], check=True, capture_output=True, text=True).stdout
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.is_file() else []
    processor = [line for line in lines if line.startswith(("model name", "flags", "Features"))][:2]
    code = [file.read_bytes() for file in sorted(SOURCE.iterdir())]
    parts = [*code, " ".join(FLAGS).encode(), version.encode(), "\n".join(processor).encode()]
    return hashlib.sha256(b"\0".join([*parts, platform.machine().encode()])).hexdigest()[:16]
