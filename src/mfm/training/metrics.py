"""Metrics of a run, a row an epoch."""

from __future__ import annotations

import resource
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch

from mfm.files.atomic import write_csv


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


def peak_memory_mb(device: torch.device) -> float:
    """Most memory that this process has held: a GPU's allocated, else its resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
