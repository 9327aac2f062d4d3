"""Agreement of all ranks after a step: go on, save, or stop."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import cast

import torch
import torch.distributed as dist

from mfm.processes.lifetime import StopRequest
from mfm.processes.ranks import Process


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What every rank has to do now; the same on all of them."""

    save: bool
    stop: signal.Signals | None  # what somebody asked any rank by


class Agreement:
    """Questions to all ranks, asked for while a step is computed.

    A signal reaches one rank, or all of them at different steps, and clocks differ: what one rank
    wishes at the start of a step, all do at the step's end. The question travels by gloo beside
    the gradients, so that a GPU never waits for it.
    """

    def __init__(
        self,
        *,
        stop: StopRequest,
        checkpoint_minutes: float | None,
        timeout_minutes: float,
        process: Process,
    ) -> None:
        self._stop = stop
        self._seconds = None if checkpoint_minutes is None else 60 * checkpoint_minutes
        self._saved = time.monotonic()
        self._is_main = process.is_main
        self._asks = process.world > 1
        # On CPUs the ranks' own connections do: every rank asks at the same place in a step.
        self._group: dist.ProcessGroup | None = None
        if self._asks and dist.get_backend() != "gloo":
            group = dist.new_group(backend="gloo", timeout=timedelta(minutes=timeout_minutes))
            self._group = cast(dist.ProcessGroup, group)
        self._wishes = torch.zeros(2, dtype=torch.int32)
        self._answer: dist.Work | None = None

    def begin(self) -> None:
        """Start of a step: tell the other ranks what this one wishes."""
        overdue = (
            self._is_main
            and self._seconds is not None
            and time.monotonic() - self._saved >= self._seconds
        )
        self._wishes = torch.tensor([overdue, self._stop.received or 0], dtype=torch.int32)
        if self._asks:
            self._answer = dist.all_reduce(
                self._wishes, op=dist.ReduceOp.MAX, group=self._group, async_op=True
            )

    def end(self) -> Decision:
        """End of the step: what any rank wished at its start."""
        if self._answer is not None:
            self._answer.wait()
            self._answer = None
        save, stop = self._wishes.tolist()
        return Decision(save=bool(save), stop=signal.Signals(stop) if stop else None)

    def saved(self) -> None:
        """A checkpoint has been written: the clock starts anew."""
        self._saved = time.monotonic()
