"""Metrics of a run, a row an epoch."""

from __future__ import annotations

import csv
import resource
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfm.files.atomic import write_csv

if TYPE_CHECKING:  # rows are read without importing torch
    import torch


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """One row of a run's metrics CSV."""

    epoch: int  # from 1
    loss: float
    lr: float
    images_per_second: float  # over all ranks
    seconds: float
    peak_memory_mb: float  # of rank 0: resident memory, or a GPU's allocated memory
    skipped_steps: int = 0  # updates that fp16's loss scaling has left out so far

    def describe(self, epochs: int) -> str:
        """A line for people, of the run's `epochs`."""
        left = (epochs - self.epoch) * self.seconds
        skipped = f"  {self.skipped_steps} steps skipped by fp16" if self.skipped_steps else ""
        return (
            f"epoch {self.epoch}/{epochs}  loss {self.loss:.5f}  lr {self.lr:.3g}  "
            f"{self.images_per_second:.0f} images/s  {self.seconds:.1f} s  "
            f"{self.peak_memory_mb:.0f} MB  {left:.0f} s left{skipped}"
        )


def write_metrics(rows: Sequence[EpochMetrics], path: Path) -> None:
    """Write the per-epoch CSV atomically."""
    write_csv(path, [asdict(row) for row in rows], [field.name for field in fields(EpochMetrics)])


def read_metrics(path: Path) -> list[EpochMetrics]:
    """The rows of such a file."""
    whole = ("epoch", "skipped_steps")
    with open(path, encoding="utf-8", newline="") as file:
        rows: list[dict[str, Any]] = [
            {key: int(value) if key in whole else float(value) for key, value in row.items()}
            for row in csv.DictReader(file)
        ]
    return [EpochMetrics(**row) for row in rows]


def peak_memory_mb(device: torch.device) -> float:
    """Most memory that this process has held: a GPU's allocated, else its resident memory."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
