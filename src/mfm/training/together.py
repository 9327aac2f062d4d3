"""Start of a run on several ranks: blank steps, which find what the sum of gradients depends on."""

from __future__ import annotations

from torch import nn

from mfm.data.loading.order import Plan
from mfm.processes.ranks import Process, data_parallel
from mfm.processes.startup import without_compiler
from mfm.training.blank import blank, unchanged
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
    few = min(2, plan.batch // plan.world)  # two, where batch norm needs several
    batch, step = blank(plan, few, size=size, channels=channels, device=process.device)
    with unchanged(model):
        task.objective(model, batch, step).backward()  # type: ignore[no-untyped-call]
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.grad is not None)
        model.zero_grad(set_to_none=True)
        with without_compiler():
            parallel = data_parallel(model, process)
            for _ in range(2):  # the order is used from the second on
                task.objective(parallel, batch, step).backward()  # type: ignore[no-untyped-call]
                model.zero_grad(set_to_none=True)
    return parallel
