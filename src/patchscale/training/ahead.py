"""Batches prepared ahead by background threads, for images that are decoded as they are read."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


class Ahead(Generic[Batch]):
    """Calls `make(step)` for coming steps while the present one is used; order and content are those of plain calls.

    Args:
        make: a pure function of the step.
        last: no step from this one on is prepared.
        depth: steps prepared ahead; 0 calls `make` when it is asked.
    """

    def __init__(self, make: Callable[[int], Batch], *, last: int, depth: int) -> None:
        self.make, self.last, self.depth = make, last, depth
        self.threads = ThreadPoolExecutor(max_workers=max(1, depth), thread_name_prefix="batch")
        self.coming: dict[int, Future[Batch]] = {}

    def __call__(self, step: int) -> Batch:
        if not self.depth:
            return self.make(step)
        for ahead in range(step, min(step + self.depth + 1, self.last)):
            if ahead not in self.coming:
                self.coming[ahead] = self.threads.submit(self.make, ahead)
        return self.coming.pop(step).result()

    def __enter__(self) -> Ahead[Batch]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.threads.shutdown(wait=True, cancel_futures=True)
