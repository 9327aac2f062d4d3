"""One process of a torchrun group: rank, device, and what ranks say to each other."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mfm.errors import UserError
from mfm.processes import devices, gpus
from mfm.processes.lifetime import end_with_launcher, end_with_parent

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Process:
    """Where this process stands. Without torchrun it's the only one."""

    rank: int
    world: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """True in the one process that writes files."""
        return self.rank == 0


@contextmanager
def process_group(*, timeout_minutes: float = 10.0) -> Iterator[Process]:
    """Join torchrun's group: nccl on GPUs, gloo on CPUs; leave it at the end.

    The device is what MFM_DEVICE says; without it the rank's own GPU, otherwise the CPU. A
    collective that waits longer than the timeout ends the run.
    """
    rank = int(os.environ.get("RANK", "0"))
    world = int(os.environ.get("WORLD_SIZE", "1"))
    device = _device()
    if device.type == "mps" and world > 1:
        raise UserError("an Apple GPU takes one process: set ranks: 1, or device: cpu")
    launched = "RANK" in os.environ
    if launched:
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo", timeout=timedelta(minutes=timeout_minutes)
        )
    yield Process(rank=rank, world=world, device=device)
    # Not after an error: waiting for a rank that is gone could take forever.
    if launched:
        dist.destroy_process_group()


def _device() -> torch.device:
    kind = devices.kind(
        devices.asked(),
        cuda=torch.cuda.is_available(),
        mps=torch.backends.mps.is_available(),
    )
    if kind == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
        return device
    if gpus.held():
        print(
            "mfm: note: PyTorch can't use the GPU that nvidia-smi lists; on the CPU",
            file=sys.stderr,
        )
    return torch.device(kind)


def data_parallel(model: nn.Module, process: Process) -> nn.Module:
    """The model with gradients averaged over the ranks; the model itself where there is one rank.

    Each rank's batch norm sees its own images; rank 0's running statistics are kept, so nothing
    needs to be broadcast before each forward pass.
    """
    if process.world == 1:
        return model
    parallel = DistributedDataParallel(model, gradient_as_bucket_view=True)
    parallel.broadcast_buffers = False  # what the argument for it is called depends on the version
    return parallel


def sum_over_ranks(values: Tensor, process: Process) -> Tensor:
    """Element-wise sum of one tensor of each rank, given to all of them."""
    if process.world > 1:
        values = values.to(process.device)
        dist.all_reduce(values)
    return values


class _Rows(torch.autograd.Function):
    """Rows of all ranks, from this rank's."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(dist.get_world_size())[dist.get_rank()]


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """Rows [n, ...] of all ranks, n of each, in rank order, and the place of this rank's first.

    What comes back to a rank's rows is the sum over all ranks' losses, as where one process has all
    rows and adds up the losses. A process alone, as a replay of one rank's step, has its own.
    """
    if not dist.is_initialized():
        return rows, 0
    gathered: Tensor = _Rows.apply(rows)
    return gathered, dist.get_rank() * len(rows)


def barrier(process: Process) -> None:
    """Wait for all ranks."""
    if process.world > 1:
        dist.barrier()


def gather_objects(value: T, process: Process) -> list[T]:
    """One small picklable object of each rank, in rank order, given to all of them."""
    if process.world == 1:
        return [value]
    values: list[T | None] = [None] * process.world
    dist.all_gather_object(values, value)
    return cast(list[T], values)


def begin() -> None:
    """Start a process of a job: its threads, its tie to whatever started it, its GPU."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1))))
    if "TORCHELASTIC_RUN_ID" in os.environ:
        end_with_launcher()
        gpus.join()
    else:
        end_with_parent()
        gpus.take()
