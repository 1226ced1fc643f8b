"""Where the weights of a trial lie: whole in every process (DDP), or a slice of each in every process (FSDP2).

Either way gradients are sums over processes of parts that are weighted by their share of the batch, so that parts need
not be of equal size, and a checkpoint holds whole tensors that any number of processes can read.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any, Literal, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from patchscale.tasks import Batch, Task
from patchscale.training.processes import Processes

Parallel = Literal["ddp", "fsdp"]


class LossOf(nn.Module):
    """A task's loss as the forward of a module, so that hooks of DDP and FSDP see every use of the weights."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self.task, self.model = task, model

    def forward(self, batch: Batch) -> Tensor:
        """The mean loss of a batch."""
        return self.task.loss(self.model, batch)


class Placement(Protocol):
    """What the loop asks of the weights, wherever they lie."""

    loss: nn.Module
    """Takes a batch; backward through its result leaves gradients to be summed."""

    def summing(self, wanted: bool) -> AbstractContextManager:
        """Around forward and backward of a part: whether gradients are summed over processes after it."""
        ...

    def evaluated(self) -> AbstractContextManager[nn.Module]:
        """The whole model, averaged if the recipe says so, with which every process can compute by itself."""
        ...


class Replicated:
    """All weights in every process.

    Args:
        task: its loss is what is differentiated.
        model: on this process's device.
        average: of the weights, or none.
        processes: those that share the work.
    """

    def __init__(self, task: Task, model: nn.Module, average: nn.Module | None, processes: Processes) -> None:
        self.whole = model if average is None else average
        self.loss: nn.Module = LossOf(task, model)
        if processes.size > 1:
            self.loss = DistributedDataParallel(self.loss, gradient_as_bucket_view=True)
            self.loss.register_comm_hook(None, _sum)

    def summing(self, wanted: bool) -> AbstractContextManager:
        """See `Placement.summing`."""
        if isinstance(self.loss, DistributedDataParallel) and not wanted:
            return self.loss.no_sync()
        return contextlib.nullcontext()

    def evaluated(self) -> AbstractContextManager[nn.Module]:
        """See `Placement.evaluated`."""
        return contextlib.nullcontext(self.whole)


class Sharded:
    """A slice of every weight, its average and its optimizer state in each process; whole blocks only while they run.

    Gradients are summed after every part, because keeping whole ones until the last is what sharding avoids.
    """

    def __init__(self, task: Task, model: nn.Module, average: nn.Module | None, device: torch.device) -> None:
        self.spare, self.device = copy.deepcopy(model).cpu(), device
        self.loss: nn.Module = _shard(LossOf(task, model), task.encoder(model), device)
        self.slices = model
        if average is not None:
            _shard(LossOf(task, average), task.encoder(average), device)
            self.slices = average

    def summing(self, wanted: bool) -> AbstractContextManager:
        """See `Placement.summing`."""
        return contextlib.nullcontext()

    @contextlib.contextmanager
    def evaluated(self) -> Iterator[nn.Module]:
        """See `Placement.evaluated`; outside the block the copy lies in host memory."""
        self.spare.load_state_dict({name: whole(tensor).cpu() for name, tensor in self.slices.state_dict().items()})
        try:
            yield self.spare.to(self.device)
        finally:
            self.spare.cpu()


def place(
    kind: Parallel,
    task: Task,
    model: nn.Module,
    average: nn.Module | None,
    device: torch.device,
    processes: Processes,
) -> Placement:
    """Distributes the weights; with one process they stay as they are. Build the optimizer afterwards."""
    if kind == "fsdp" and processes.size > 1:
        return Sharded(task, model, average, device)
    return Replicated(task, model, average, processes)


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which each process may hold a slice; every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sliced_like(tensor: Tensor, own: Tensor) -> Tensor:
    """This process's slice of a whole tensor, if `own` is one."""
    if not isinstance(own, DTensor):
        return tensor
    return distribute_tensor(tensor.to(own.device), own.device_mesh, own.placements, src_data_rank=None)


def _shard(loss: LossOf, encoder: nn.Module, device: torch.device) -> nn.Module:
    """Shards block by block, then the rest."""
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    blocks: Any = getattr(encoder, "blocks", None) or getattr(encoder, "layers", None) or []
    for module in (*blocks, loss):
        fully_shard(module, mesh=mesh)
    for module in loss.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return loss


def _sum(state, bucket):  # DDP refuses annotations that are strings
    """Sums a bucket of gradients, where DDP by itself would average."""
    return dist.all_reduce(bucket.buffer(), async_op=True).get_future().then(lambda done: done.value()[0])
