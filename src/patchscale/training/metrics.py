"""The record of a trial as it happens: JSON lines that are appended, and cut back to the checkpoint on resume."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from patchscale.files import write_text


class MetricsFile:
    """`metrics.jsonl` of one trial; each line has `kind` (`train` or `test`) and `step`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def cut_after(self, step: int) -> None:
        """Drops lines later than `step`, and a last line that a crash left incomplete."""
        kept = [line for line in read_metrics(self.path) if line["step"] <= step]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))

    def append(self, **values: Any) -> None:
        """Adds one line and waits until it is on disk."""
        with self.path.open("a") as file:
            file.write(json.dumps(values, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All complete lines of a metrics file; none if it does not exist yet."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [json.loads(line) for line in lines[:-1] if line]
