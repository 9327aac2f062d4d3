"""Numbers gone bad: what is noticed, what is counted, and what stays untouched."""

import numpy as np
import pytest
import torch

from mfm.data.loading.batches import Batch
from mfm.data.loading.order import Step
from mfm.errors import UserError
from mfm.training.nonfinite import StepCheck
from mfm.training.optimizers import AdamW

CPU = torch.device("cpu")


def batch():
    return Batch(
        torch.zeros(2, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(2, dtype=torch.int64),
        torch.arange(2),
    )


def step(number=0):
    positions = np.arange(2)
    return Step(epoch=4, number=number, positions=positions, micro_batches=(positions,))


class Trainer:
    """A linear model whose gradient is whatever a test wants."""

    def __init__(self, *, fp16=False, device_waits=False, max_skipped=2, skipped=0):
        self.model = torch.nn.Linear(3, 1, bias=False)
        torch.nn.init.ones_(self.model.weight)
        self.optimizer = AdamW(self.model.parameters(), lr=0.1, fused=True)
        self.scaler = torch.amp.GradScaler("cpu", enabled=fp16, init_scale=4.0)
        self.refused = []
        self.check = StepCheck(
            optimizer=self.optimizer,
            scaler=self.scaler,
            device=CPU,
            skipped=skipped,
            max_skipped=max_skipped,
            refuse=self.refuse,
        )
        self.number = 0
        # What a GPU does: look at a step while the next is queued. Copying is immediate here.
        self.check._waits = device_waits
        if device_waits:
            self.check._to_host = lambda numbers, step, batches: pending(numbers, step, batches)

    def refuse(self, bad):
        self.refused.append(bad)
        return UserError(bad.what)

    def step(self, *, gradient=1.0, loss=1.0, clip=None):
        self.number += 1
        value = (self.model.weight * gradient).sum()
        self.scaler.scale(value).backward()
        norm = self.check.gradient_norm(self.model, clip)
        self.check.step(torch.tensor(loss), norm, step(self.number), [batch()])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()

    @property
    def weights(self):
        return self.model.weight.detach().clone()


def pending(numbers, step, batches):
    from mfm.training.nonfinite import _Pending

    return _Pending(numbers=numbers, copied=None, step=step, batches=batches)


@pytest.mark.parametrize("bad", [{"loss": float("nan")}, {"loss": float("inf")}])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_bad_loss_is_refused_before_the_update(bad, clip):
    trainer = Trainer()
    trainer.step()
    before = trainer.weights
    with pytest.raises(UserError, match="the loss is"):
        trainer.step(**bad, clip=clip)
    assert torch.equal(trainer.weights, before)
    (refused,) = trainer.refused
    assert refused.step.number == 2
    assert not np.isfinite(refused.loss)
    assert torch.equal(refused.batches[0].positions, torch.arange(2))


@pytest.mark.parametrize("gradient", [float("nan"), float("inf")])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_bad_gradient_with_a_good_loss_is_refused_too(gradient, clip):
    trainer = Trainer()
    with pytest.raises(UserError, match="the gradient's norm is"):
        trainer.step(gradient=gradient, clip=clip)
    assert torch.equal(trainer.weights, torch.ones(1, 3))


@pytest.mark.parametrize("fp16", [False, True])
@pytest.mark.parametrize("bad", [{"loss": float("nan")}, {"gradient": float("nan"), "loss": 2e400}])
def test_where_the_host_looks_later_the_weights_are_still_those_before_the_step(fp16, bad):
    trainer = Trainer(fp16=fp16, device_waits=True)
    trainer.step()
    before = trainer.weights
    trainer.step(**bad)
    assert not trainer.refused, "the host has not looked yet"
    with pytest.raises(UserError):
        trainer.step()
    assert trainer.refused[0].step.number == 2
    assert torch.equal(trainer.weights, before)
    trainer.check.flush()


def test_flush_looks_at_the_last_step():
    trainer = Trainer(device_waits=True)
    trainer.step(loss=float("nan"))
    with pytest.raises(UserError, match="the loss is nan"):
        trainer.check.flush()


def test_good_steps_are_the_same_with_and_without_waiting():
    ours, theirs = Trainer(), Trainer(device_waits=True)
    for trainer in (ours, theirs):
        for number in range(5):
            trainer.step(gradient=float(number + 1), clip=2.0)
    assert torch.equal(ours.weights, theirs.weights)
    assert not torch.equal(ours.weights, torch.ones(1, 3))


def test_fp16_overflows_are_skipped_counted_and_tolerated_for_a_while():
    trainer = Trainer(fp16=True, max_skipped=2, skipped=5)
    trainer.step()
    before = trainer.weights
    for _ in range(2):
        trainer.step(gradient=float("inf"))
    assert torch.equal(trainer.weights, before)
    assert trainer.check.skipped == 7
    trainer.step()
    assert not torch.equal(trainer.weights, before)
    for _ in range(2):
        trainer.step(gradient=float("inf"))
    with pytest.raises(UserError, match="fp16 overflowed in 3 steps in a row"):
        trainer.step(gradient=float("inf"))
    assert trainer.check.skipped == 10


def test_the_norm_is_that_of_the_unscaled_gradient_before_clipping():
    for fp16 in (False, True):
        trainer = Trainer(fp16=fp16)
        value = (trainer.model.weight * 2.0).sum()
        trainer.scaler.scale(value).backward()
        norm = trainer.check.gradient_norm(trainer.model, 1.0)
        assert norm.item() == pytest.approx(2.0 * 3**0.5)
        clipped = trainer.model.weight.grad.norm().item()
        assert clipped == pytest.approx(1.0, rel=1e-5)
