"""Batches in a given order, made ahead by worker processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler

from mfm.data.loading.batches import Batch, ByRequest, Request
from mfm.data.loading.order import Plan, Step
from mfm.errors import UserError
from mfm.processes import shared_memory
from mfm.processes.lifetime import leave_signals_to_parent


class _Requests(Sampler[Request]):
    """What the DataLoader asks its workers for; set anew for each pass."""

    def __init__(self) -> None:
        self._requests: Callable[[], Iterable[Request]] = lambda: ()

    def set(self, requests: Callable[[], Iterable[Request]]) -> None:
        self._requests = requests

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests())


def _begin_worker(number: int) -> None:
    leave_signals_to_parent()


def on_device(
    steps: Iterator[tuple[Step, list[Batch]]], device: torch.device
) -> Iterator[tuple[Step, list[Batch]]]:
    """The same steps with their batches on the device.

    A GPU gets a step's images while it computes on those of the one before, by a stream of its own.
    """
    if device.type != "cuda":
        for step, batches in steps:
            yield step, [batch.to(device) for batch in batches]
        return
    copies = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    ahead: tuple[Step, list[Batch]] | None = None
    for step, batches in steps:
        with torch.cuda.stream(copies):
            copied = [batch.to(device) for batch in batches]
        if ahead is not None:
            yield ahead
        torch.cuda.current_stream(device).wait_stream(copies)
        for batch in copied:
            batch.used_on(torch.cuda.current_stream(device))
        ahead = step, copied
    if ahead is not None:
        yield ahead


class Loader:
    """Batches in a given order. Workers live as long as the loader.

    Workers only speed it up: everything random is a function of (seed, epoch, image).
    """

    def __init__(
        self,
        batches: ByRequest[Any],
        *,
        workers: int,
        device: torch.device,
        timeout_minutes: float = 0.0,  # 0: wait for ever
    ) -> None:
        if workers:
            shared_memory.check()
        self._minutes = timeout_minutes
        self._requests = _Requests()
        self._loader = DataLoader(
            batches,
            batch_size=None,
            sampler=self._requests,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            timeout=60 * timeout_minutes if workers else 0,
            pin_memory=device.type == "cuda",
            worker_init_fn=_begin_worker,
        )

    def close(self) -> None:
        """End the workers, and read no more. torch waits for each of those left to Python's end."""
        del self._loader

    def read(self, requests: Callable[[], Iterable[Request]]) -> Iterator[Batch]:
        """One pass over the given requests."""
        yield from self._made(requests)

    def _made(self, requests: Callable[[], Iterable[Request]]) -> Iterator[Any]:
        self._requests.set(requests)
        try:
            for made in self._loader:
                if isinstance(made, UserError):
                    raise made
                yield made
        except RuntimeError as error:
            if "DataLoader timed out" not in str(error):
                raise
            # No UserError: starting again may well help.
            raise TimeoutError(
                f"no images for {self._minutes:g} minutes: does the disk that holds them answer?"
            ) from None

    def train(self, plan: Plan, epoch: int, first_step: int) -> Iterator[tuple[Step, list[Batch]]]:
        """Steps of an epoch with this rank's micro-batches."""
        batches = self.read(
            lambda: (
                (epoch, micro)
                for step in plan.epoch(epoch, first_step=first_step)
                for micro in step.micro_batches
            )
        )
        for step in plan.epoch(epoch, first_step=first_step):
            yield step, [next(batches) for _ in step.micro_batches]
