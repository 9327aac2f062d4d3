"""Blank steps: of black images, ahead of a run's first one, after which all is as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from mfm.data.loading.batches import Batch
from mfm.data.loading.order import Plan, Step


def blank(
    plan: Plan, share: int, *, size: int, channels: int, device: torch.device
) -> tuple[Batch, Step]:
    """This rank's part, `share` images at once, of a step; all black and of the first class."""
    whole = share * plan.world
    step = next(replace(plan, images=whole, batch=whole, micro_batch=share).epoch(0))
    (positions,) = step.micro_batches
    shape = len(positions), size, size, channels
    pixels = torch.zeros(shape, dtype=torch.uint8).permute(0, 3, 1, 2)
    labels = torch.zeros(len(positions), dtype=torch.int64)
    return Batch(pixels, labels, torch.from_numpy(positions)).to(device), step


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Within, steps as in a training; afterwards, no gradient and no statistics of them."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.train()
    try:
        yield
    finally:
        model.zero_grad(set_to_none=True)
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
