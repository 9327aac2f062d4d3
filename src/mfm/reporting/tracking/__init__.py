"""Trackers: where `mfm track` sends what runs left in their files, a module each."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Protocol

from mfm.reporting.tracking.runs import Tracked

# A line a module beside this one, whose `open_tracker(at)` gives a Tracker.
TRACKERS = ("mlflow", "tensorboard")


class Tracker(Protocol):
    """One place that runs are sent to."""

    def send(self, run: Tracked) -> bool:
        """Send what isn't there yet; whether anything was sent."""


def send_all(runs: Sequence[Tracked], *, to: str, at: str) -> list[str]:
    """Send all runs to a tracker at an address; the names of those that had something new.

    Raises UserError where the tracker's package is missing, or where it can't be reached.
    """
    tracker: Tracker = import_module(f"{__name__}.{to}").open_tracker(at)
    return [run.name for run in runs if tracker.send(run)]
