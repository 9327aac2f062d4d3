"""Check for numbers that are no longer numbers, before they reach the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mfm.data.loading.batches import Batch
from mfm.data.loading.order import Step
from mfm.errors import UserError
from mfm.numerics import precision


@dataclass(frozen=True, kw_only=True)
class BadStep:
    """A step whose loss or gradient is not finite; the weights are still those before it."""

    what: str  # 'the loss is nan'
    loss: float  # of this rank's images
    step: Step
    batches: Sequence[Batch]  # this rank's micro-batches, on the host


@dataclass(frozen=True, kw_only=True)
class _Pending:
    numbers: Tensor  # [4]: loss, gradient norm, skipped steps, skipped in a row
    copied: torch.cuda.Event | None
    step: Step
    batches: Sequence[Batch]


class StepCheck:
    """Look at each step's loss and gradient norm between the backward pass and the update.

    On a CPU at once. On a GPU while the next step is already queued, so that no step waits for the
    host; until then the update itself is held back on the device, from the bad step on, so the
    weights stay what they were. fp16's gradients overflow now and then and its scaler skips those
    steps: they are counted, and only a long run of them is an error.
    """

    def __init__(
        self,
        *,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler,
        device: torch.device,
        skipped: int,
        max_skipped: int,
        refuse: Callable[[BadStep], UserError],
    ) -> None:
        self._refuse = refuse
        self._optimizer = optimizer
        self._scaler = scaler
        self._max_skipped = max_skipped
        # An optimizer that is not fused can't be held back on the device: then look at once.
        held_back = getattr(optimizer, "_step_supports_amp_scaling", False)
        self._waits = device.type == "cuda" and held_back
        self._bad = torch.zeros((), device=device)
        self._skipped = torch.full((), skipped, dtype=precision.wide(device), device=device)
        self._in_a_row = torch.zeros_like(self._skipped)
        self._pending: _Pending | None = None

    @property
    def skipped(self) -> int:
        """Steps that the fp16 scaler has skipped so far; waits for a GPU."""
        return int(self._skipped.item())

    def gradient_norm(self, model: nn.Module, clip: float | None) -> Tensor:
        """Norm of the whole gradient, unscaled, before it is clipped to `clip`."""
        if self._scaler.is_enabled():
            self._scaler.unscale_(self._optimizer)
        if clip is not None:
            return nn.utils.clip_grad_norm_(model.parameters(), clip)
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        return nn.utils.get_total_norm(gradients)

    def step(self, loss: Tensor, norm: Tensor, step: Step, batches: Sequence[Batch]) -> None:
        """Take one step's numbers, scalars on the device.

        Raises UserError for a loss or gradient that is not finite, and for too many skipped steps
        in a row; on a GPU for the step before.
        """
        bad = ~loss.isfinite()
        if self._scaler.is_enabled():
            self._count_skips(bad)
        else:
            bad = bad | ~norm.isfinite()
        if self._waits:
            self._hold_back(bad)
        numbers = torch.stack(
            [loss.to(self._skipped), norm.to(self._skipped), self._skipped, self._in_a_row]
        ).detach()
        before, self._pending = self._pending, self._to_host(numbers, step, batches)
        if before is not None:
            self._check(before)
        if not self._waits:
            self.flush()

    def flush(self) -> None:
        """Check what is pending; before anything is saved."""
        pending, self._pending = self._pending, None
        if pending is not None:
            self._check(pending)

    def _count_skips(self, bad: Tensor) -> None:
        found = self._scaler._found_inf_per_device(self._optimizer)
        overflow = torch.stack([value.to(bad.device) for value in found.values()]).sum() > 0
        self._skipped += overflow
        self._in_a_row = (self._in_a_row + 1) * overflow

    def _hold_back(self, bad: Tensor) -> None:
        self._bad = torch.maximum(self._bad, bad.float())
        if self._scaler.is_enabled():
            for value in self._scaler._found_inf_per_device(self._optimizer).values():
                value.copy_(torch.maximum(value, self._bad))  # the kernels ask for exactly 1
        else:
            # What a GradScaler sets too: the fused kernels read it, torch's types don't know it.
            self._optimizer.found_inf = self._bad  # type: ignore[attr-defined]

    def _to_host(self, numbers: Tensor, step: Step, batches: Sequence[Batch]) -> _Pending:
        if not self._waits:
            return _Pending(numbers=numbers, copied=None, step=step, batches=batches)
        host = torch.empty(numbers.shape, dtype=numbers.dtype, pin_memory=True)
        host.copy_(numbers, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return _Pending(numbers=host, copied=event, step=step, batches=batches)

    def _check(self, pending: _Pending) -> None:
        if pending.copied is not None:
            pending.copied.synchronize()
        loss, norm, skipped, in_a_row = pending.numbers.tolist()
        step, batches = pending.step, pending.batches
        if not math.isfinite(loss):
            what = f"the loss is {loss}"
            raise self._refuse(BadStep(what=what, loss=loss, step=step, batches=batches))
        if not self._scaler.is_enabled() and not math.isfinite(norm):
            what = f"the gradient's norm is {norm} (the loss is {loss:.5g})"
            raise self._refuse(BadStep(what=what, loss=loss, step=step, batches=batches))
        if in_a_row > self._max_skipped:
            raise UserError(
                f"fp16 overflowed in {in_a_row:.0f} steps in a row ({skipped:.0f} in all) at epoch "
                f"{step.epoch + 1}, step {step.number + 1}: the run has diverged; lower the "
                "learning rate, set clip, or use bf16"
            )
