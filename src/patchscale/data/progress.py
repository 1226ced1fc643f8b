"""How far a long preparation of images has come, told on standard error with an estimate of the time left."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")

PAUSE_SECONDS = 10.0
"""Between two lines; what is quicker says nothing."""


class Progress:
    """Counts what is done, in any number of threads; now and then a line `drawing scenes: 312 of 1,024, 2:21 left`.

    Args:
        total: how many there will be.
        what: what is being done, and to what.
    """

    def __init__(self, total: int, what: str) -> None:
        self.total, self.what, self.done = total, what, 0
        self.began = self.told = time.monotonic()
        self.lock = threading.Lock()

    def add(self) -> None:
        """One more is done."""
        with self.lock:
            self.done += 1
            now = time.monotonic()
            if now - self.told < PAUSE_SECONDS or self.done >= self.total:
                return
            self.told = now
            minutes, seconds = divmod(round((now - self.began) / self.done * (self.total - self.done)), 60)
            line = f"{self.what}: {self.done:,} of {self.total:,}, {minutes}:{seconds:02} left"
        print(line, file=sys.stderr, flush=True)


def counted(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """The items as they come, counted; see `Progress`."""
    progress = Progress(total, what)
    for item in items:
        progress.add()
        yield item
