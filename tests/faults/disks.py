"""A file system of a few MB that can be filled, emptied and write-protected."""

from __future__ import annotations

import subprocess
from pathlib import Path


class Disk:
    """A mounted file system of a few MB."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.filler = folder, folder / "filler"

    def fill(self) -> None:
        """Leaves no room."""
        with self.filler.open("wb", buffering=0) as file:
            try:
                while file.write(b"\0" * 4096):
                    pass
            except OSError:
                return

    def empty(self) -> None:
        """Makes room again."""
        self.filler.unlink()

    def set_writable(self, writable: bool) -> None:
        subprocess.run(["mount", "-o", f"remount,{'rw' if writable else 'ro'}", self.folder], check=True)
