"""Progress of a run as it is shown: a bar on a terminal, plain lines in a log file."""

from __future__ import annotations

import sys
import time

from torch import Tensor
from tqdm import tqdm

from mfm.training.status import Status

_BAR_SECONDS = 1.0
_LINE_SECONDS = 60.0


class Progress:
    """Progress of one epoch, shown by one process.

    The loss is read from the device only when it is shown: reading it waits for the device.
    """

    def __init__(
        self,
        *,
        shown: bool,
        epoch: int,
        epochs: int,
        steps: int,
        batch: int,
        first: int = 0,
        ranks: int = 1,
        status: Status | None = None,
    ) -> None:
        self._terminal = shown and sys.stderr.isatty()
        self._shown = shown
        self._status = status
        self._epoch = epoch
        self._ranks = ranks
        self._every = _BAR_SECONDS if self._terminal else _LINE_SECONDS
        self._title = f"epoch {epoch + 1}/{epochs}"
        self._steps, self._batch = steps, batch
        self._started = self._last = time.perf_counter()
        self._done = self._first = first
        self._bar = tqdm(
            total=steps * batch,
            initial=first * batch,
            desc=self._title,
            unit=" images",
            unit_scale=True,
            leave=False,
            disable=not self._terminal,
        )

    def step(self, loss: Tensor, rate: float) -> None:
        """Count a finished step; show it if it is time to.

        `loss` is this rank's part of the step's: times the number of ranks, about the whole.
        """
        self._done += 1
        self._bar.update(self._batch)
        if self._status is not None and self._status.due(epoch=self._epoch, step=self._done):
            self._status.write(
                epoch=self._epoch, step=self._done, loss=loss.item() * self._ranks, rate=rate
            )
        now = time.perf_counter()
        if not self._shown or now - self._last < self._every:
            return
        self._last = now
        if self._terminal:
            self._bar.set_postfix(loss=f"{loss.item() * self._ranks:.4f}", lr=f"{rate:.3g}")
            return
        speed = (self._done - self._first) / (now - self._started)
        print(
            f"{self._title}  step {self._done}/{self._steps}  "
            f"loss {loss.item() * self._ranks:.5f}  "
            f"lr {rate:.3g}  {speed * self._batch:.0f} images/s  "
            f"{(self._steps - self._done) / speed:.0f} s left in this epoch",
            flush=True,
        )

    def close(self) -> None:
        """Remove the bar."""
        self._bar.close()
