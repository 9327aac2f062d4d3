"""Start of a run on several ranks: blank steps, which find what the sum of gradients depends on."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from mfm.data.batches import Batch
from mfm.data.order import Plan, Step
from mfm.processes.ranks import Process, data_parallel
from mfm.training.task import Task


def together(
    model: nn.Module, task: Task, *, plan: Plan, size: int, channels: int, process: Process
) -> nn.Module:
    """The model with gradients averaged over the ranks; the model itself where there is one rank.

    Parameters that the loss doesn't reach, as the norm above a ConvNeXt's last map in a task that
    predicts images, are left out: DistributedDataParallel would wait for their gradients. One rank
    leaves them as they are, too, since no optimizer touches what has no gradient.

    Then it orders its gradient buckets, after its first backward pass. With more than two ranks the
    order of a sum depends on the place in a bucket, so without these steps a resumed run's first
    one would differ by rounding from the same step of a run that was not interrupted.
    """
    if process.world == 1:
        return model
    batch, step = _blank(plan, size=size, channels=channels, device=process.device)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.train()
    task.objective(model, batch, step).backward()  # type: ignore[no-untyped-call]
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.grad is not None)
    model.zero_grad(set_to_none=True)
    parallel = data_parallel(model, process)
    for _ in range(2):  # the order is used from the second on
        task.objective(parallel, batch, step).backward()  # type: ignore[no-untyped-call]
        model.zero_grad(set_to_none=True)
    for name, buffer in model.named_buffers():
        buffer.copy_(buffers[name])
    return parallel


def _blank(plan: Plan, *, size: int, channels: int, device: torch.device) -> tuple[Batch, Step]:
    """This rank's part of a step of few images, all black and of the first class."""
    share = min(2, plan.batch // plan.world)  # two, where batch norm needs several
    few = share * plan.world
    step = next(replace(plan, images=few, batch=few, micro_batch=share).epoch(0))
    (positions,) = step.micro_batches
    shape = len(positions), size, size, channels
    pixels = torch.zeros(shape, dtype=torch.uint8).permute(0, 3, 1, 2)
    labels = torch.zeros(len(positions), dtype=torch.int64)
    return Batch(pixels, labels, torch.from_numpy(positions)).to(device), step
