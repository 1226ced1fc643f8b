"""Atomic files: a reader, or a process started after a crash, sees the old content or the new, never a part."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any


def cache_folder() -> Path:
    """Where downloads, decoded images and compiled code are kept: `PATCHSCALE_CACHE`, or ~/.cache/patchscale."""
    return Path(os.environ.get("PATCHSCALE_CACHE") or Path.home() / ".cache" / "patchscale")


def write_bytes(path: Path | str, content: bytes, *, durable: bool = True) -> None:
    """Replaces `path` by `content` in one step.

    Args:
        path: the file; its folder must exist.
        content: the whole new content.
        durable: also wait until file and folder are on disk (off for progress notes that may be lost).
    """
    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def write_text(path: Path | str, content: str, *, durable: bool = True) -> None:
    """`write_bytes` for UTF-8 text."""
    write_bytes(path, content.encode(), durable=durable)


def write_json(path: Path | str, content: Any, *, durable: bool = True) -> None:
    """`write_bytes` for JSON, indented; not-a-number is refused because JSON has none."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n", durable=durable)


def remove_leftovers(*folders: Path) -> None:
    """Deletes what `write_bytes` of a process that was killed left half-written; nobody else may be writing there."""
    for folder in folders:
        for leftover in folder.glob(".*.tmp"):
            leftover.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Waits until the entries of `folder` are on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
