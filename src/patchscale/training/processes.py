"""The processes that train one trial together, as torchrun starts them, and what they tell each other.

One process alone is the plain case: nothing is sent and nothing can differ. Values travel over gloo on the host;
tensors of a GPU over nccl.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from patchscale.errors import InputError
from patchscale.training.outcome import ProcessLost, SaidElsewhere, Stopped, TrainingFailed

Value = TypeVar("Value")
AGREED = {kind.__name__: kind for kind in (InputError, TrainingFailed)}


def rank() -> int:
    """This process's place among those of its trial; 0 writes files and speaks to the user."""
    return int(os.environ.get("RANK", 0))


def divide(total: int, parts: int) -> list[slice]:
    """`total` rows as consecutive runs whose lengths differ by at most one; none is empty."""
    edges = [total * part // parts for part in range(parts + 1)]
    return [slice(low, high) for low, high in itertools.pairwise(edges) if low < high]


class Processes:
    """All processes of a trial, seen from one of them.

    Attributes:
        rank: of this process.
        size: how many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks to the user."""
        return self.rank == 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """What one process raises inside the block, every process raises at its end, so that none waits in vain.

        The first process raises an `InputError` or a `TrainingFailed` as it is, the others `SaidElsewhere`; any other
        exception is also raised as it is where it happened.
        """
        if self.size == 1:
            yield
            return
        problem: Exception | None = None
        try:
            yield
        except Exception as error:
            problem = error
        self._settle(problem)

    def vote(self, *wishes: bool) -> list[bool]:
        """For each wish, whether any process has it."""
        if self.size == 1:
            return list(wishes)
        counts = torch.tensor(wishes, dtype=torch.int64)
        dist.all_reduce(counts)
        return [count > 0 for count in counts.tolist()]

    def add(self, values: Tensor) -> Tensor:
        """The sum of every process's `values`, the same digits in each."""
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def largest(self, value: int) -> int:
        """The largest of every process's `value`."""
        return max(self.collect(value))

    def collect(self, value: Value) -> list[Value]:
        """Every process's `value`, in order of rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        dist.all_gather_object(found, value)
        return found

    def share(self, value: Value) -> Value:
        """The first process's `value`."""
        if self.size == 1:
            return value
        box = [value if self.first else None]
        dist.broadcast_object_list(box, src=0)
        return box[0]  # pyright: ignore[reportReturnType]

    def _settle(self, problem: Exception | None) -> None:
        if not self.vote(problem is not None)[0]:
            return
        told = None
        if problem is not None:
            told = type(problem).__name__, str(problem)
        number, (kind, text) = next((number, found) for number, found in enumerate(self.collect(told)) if found)
        if problem is not None and kind not in AGREED:
            raise problem
        if not self.first:
            raise SaidElsewhere(text) from problem
        if kind not in AGREED:
            raise TrainingFailed(f"process {number} of {self.size}: {kind}: {text}")
        raise AGREED[kind](text) from problem


@contextmanager
def join(device: torch.device) -> Iterator[Processes]:
    """The processes of this trial: those that torchrun started, or this one alone; inside another `join`, the same.

    Args:
        device: where this process computes.

    Raises:
        ProcessLost: a process died, so that those that are left cannot go on.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.backends.cudnn.allow_tf32 = False  # float32 means float32, as it does in torch's products by default
    size = int(os.environ.get("WORLD_SIZE", 1))
    if size == 1 or dist.is_initialized():
        yield Processes(rank() if size > 1 else 0, size)
        return
    dist.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(dist.get_rank(), size)
    except (InputError, Stopped, TrainingFailed):
        dist.destroy_process_group()
        raise
    except RuntimeError as error:
        if not _is_lost_connection(error):
            raise
        raise ProcessLost(
            f"another of the {size} processes of this trial ended; the same command continues from the last checkpoint"
        ) from error
    dist.destroy_process_group()


def _is_lost_connection(error: RuntimeError) -> bool:
    """gloo has no exception class of its own; its messages name its source files."""
    return isinstance(error, dist.DistError) or "/gloo/" in str(error)
