"""Stop a run whose loss is no longer a number."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mfm import checkpoint
from mfm.data.manifest import Images
from mfm.data.plan import Step
from mfm.errors import UserError


class FiniteLoss:
    """Check each step's loss.

    On a GPU a step's loss is looked at while the next step is already queued, so that no step
    waits for the host; on a CPU at once.
    """

    def __init__(self, *, images: Images, run: Path, device: torch.device) -> None:
        self._images = images
        self._run = run
        self._waits = device.type == "cuda"
        self._pending: tuple[Tensor, torch.cuda.Event | None, Step] | None = None

    def step(self, loss: Tensor, step: Step) -> None:
        """Take one step's loss, a scalar on the device."""
        before, self._pending = self._pending, self._to_host(loss, step)
        if before is not None:
            self._check(*before)
        if not self._waits:
            self.flush()

    def flush(self) -> None:
        """Check what is pending; before anything is saved."""
        if self._pending is not None:
            self._check(*self._pending)
        self._pending = None

    def _to_host(self, loss: Tensor, step: Step) -> tuple[Tensor, torch.cuda.Event | None, Step]:
        if not self._waits:
            return loss, None, step
        host = torch.empty(loss.shape, dtype=loss.dtype, pin_memory=True)
        host.copy_(loss, non_blocking=True)
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        return host, event, step

    def _check(self, loss: Tensor, event: torch.cuda.Event | None, step: Step) -> None:
        if event is not None:
            event.synchronize()
        if math.isfinite(loss.item()):
            return
        positions = np.concatenate(step.micro_batches)
        names = ", ".join(str(self._images.path(int(position))) for position in positions[:4])
        last = checkpoint.rolling(self._run)
        raise UserError(
            f"the loss is {loss.item()} at epoch {step.epoch + 1}, step {step.number + 1} (images "
            f"{names}, ...); last good checkpoint: {last[0] if last else 'none yet'}; lower the "
            "learning rate, set clip, or use fp32"
        )
