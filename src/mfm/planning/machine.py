"""Machine that an experiment is to run on: cores, memory, GPUs, free disk."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mfm.processes import gpus


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What runs can use here."""

    cores: int  # that this process may use
    memory: int  # bytes
    gpus: tuple[str, ...]  # their models
    at_once: int  # runs of one process that the GPUs take; 0 without any
    free: int  # bytes on the disk of the results

    def slots(self, threads: int) -> int:
        """Runs of so many threads that go side by side."""
        return self.at_once or max(1, self.cores // threads)

    def __str__(self) -> str:
        kinds = {model: self.gpus.count(model) for model in dict.fromkeys(self.gpus)}
        named = ", ".join(f"{number} x {model}" for model, number in kinds.items())
        return (
            f"{self.cores} core{'s' * (self.cores > 1)}, {self.memory / 2**30:.0f} GB of memory, "
            f"{named or 'no GPU'}, {self.free / 2**30:,.0f} GB of disk free"
        )


class Others:
    """Other programs on this process's cores, from its making on."""

    def __init__(self) -> None:
        self._began = _times()

    @property
    def cores(self) -> float:
        """How many they kept busy on average; 0 where the system doesn't tell."""
        whole, busy, own = (now - before for now, before in zip(_times(), self._began, strict=True))
        return max(0.0, (busy - own) / whole) if whole else 0.0


def _times() -> tuple[float, float, float]:
    """Seconds: the clock's, all work of these cores, work of this process and its children."""
    mine = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    busy = 0
    with suppress(OSError), open("/proc/stat", encoding="ascii") as file:
        for name, *ticks in map(str.split, file):
            if name in mine:  # user, nice, system; irq, softirq, stolen by other machines
                busy += sum(map(int, ticks[:3] + ticks[5:8]))
    return time.perf_counter(), busy / os.sysconf("SC_CLK_TCK"), sum(os.times()[:4])


def look(folder: Path = Path()) -> Machine:
    """This machine; `folder` is on the disk of the results."""
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        gpus=tuple(gpu.model for gpu in gpus.visible_gpus()),
        at_once=gpus.runs_at_once() or 0,
        free=shutil.disk_usage(folder).free,
    )
