"""Steps that never wait for their device, seen without one.

A tensor of the device `meta` has no numbers: what asks it for one, or for a shape that depends on
some, fails there as it would wait on a GPU. What a GPU alone can show is in test_gpu.py.
"""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from backbones import SIZE, SMALL
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.case import every_task, settings
from mfm.data.loading.batches import Batch
from mfm.data.loading.order import Plan
from mfm.training.task import Inputs

META = torch.device("meta")
MIXED = {"loss": "bce", "smoothing": 0.1, "mixup": 0.2, "cutmix": 1.0, "erasing": 0.25}
RECIPES = {"supervised": MIXED, "simclr": {"jitter": 1.0, "blur": 0.5}}


class Copies(TorchDispatchMode):
    """Notes copies from the host that are waited for."""

    def __init__(self):
        super().__init__()
        self.waited = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        to = kwargs.get("device")
        if (
            operation is torch.ops.aten._to_copy.default
            and to is not None
            and torch.device(to) == META != args[0].device
            and not kwargs.get("non_blocking")
        ):
            self.waited.append(tuple(args[0].shape))
        return operation(*args, **kwargs)


def steps(task):
    """A task's steps on the device, one after the other, each computed when it is asked for."""
    training = settings(task, batch=8, **RECIPES.get(task, {}))
    backbone = "vit_tiny" if task in ("mae", "simmim") else "resnet18"
    built = training.build(
        Inputs(model=SMALL[backbone], size=SIZE, classes=10, rows=np.arange(32), seed=0)
    )
    model = built.model.to(META).train()
    plan = Plan(
        images=32,
        batch=8,
        micro_batch=8,
        seed=0,
        rank=0,
        world=1,
        pairs=built.mixes,
        views=training.views,
    )
    for step in plan.epoch(0):
        (positions,) = step.micro_batches
        pixels = torch.empty(len(positions), SIZE, SIZE, 3, dtype=torch.uint8, device=META)
        labels = torch.empty(len(positions), dtype=torch.int64, device=META)
        batch = Batch(pixels.permute(0, 3, 1, 2), labels, torch.from_numpy(positions))
        built.objective(model, batch, step).backward()
        yield model


@pytest.mark.parametrize("task", every_task())
def test_no_step_asks_its_device_for_a_number(monkeypatch, task):
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # there is none of meta
    one_by_one = steps(task)
    next(one_by_one)  # fills what is kept: waves, blurs
    with Copies() as copies:
        for model in one_by_one:
            assert all(each.grad is None or each.grad.device == META for each in model.parameters())
    assert copies.waited == []


@pytest.mark.parametrize(
    "asks",
    [
        lambda images: images.sum().item(),
        lambda images: images[images > 0],
        lambda images: torch.nonzero(images),
    ],
)
def test_what_would_wait_fails(asks):
    with pytest.raises((RuntimeError, NotImplementedError)):
        asks(torch.empty(2, 3, device=META))


def test_a_copy_that_is_waited_for_is_noted():
    with Copies() as copies:
        torch.zeros(2, 3).to(META, non_blocking=True)
        assert copies.waited == []
        torch.zeros(2, 3).to(META)
    assert copies.waited == [(2, 3)]
