"""Order of a run's images: which of them each step sees, on every rank, before any is read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mfm.errors import UserError
from mfm.numerics.draws import Ints, permutation


@dataclass(frozen=True, kw_only=True)
class Step:
    """One optimizer step."""

    epoch: int
    number: int  # within the epoch, from 0
    positions: Ints  # [batch] of the global batch, in the training images
    # This rank's share, in the order it's accumulated; each position as often as it has views.
    micro_batches: tuple[Ints, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The order of all steps of a run. An epoch shows each image at most once.

    The last, incomplete batch of an epoch is left out; which images it holds changes by epoch.
    """

    images: int
    batch: int
    micro_batch: int
    seed: int
    rank: int
    world: int
    pairs: bool  # keep positions 2k and 2k+1 of the batch together, for mixing
    views: int = 1  # crops of each image that a step sees

    def __post_init__(self) -> None:
        if self.batch > self.images:
            raise UserError(
                f"batch is {self.batch}, but there are only {self.images} training images; "
                "lower batch"
            )
        if self.batch % (self.world * (2 if self.pairs else 1)):
            even = " into even shares, which mixup and cutmix need" if self.pairs else ""
            raise UserError(f"batch {self.batch} does not divide by {self.world} ranks{even}")

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps in an epoch."""
        return self.images // self.batch

    @property
    def accumulation(self) -> int:
        """Micro-batches in a step: the fewest equal ones of at most `micro_batch` images."""
        share = self.batch // self.world
        unit = 2 if self.pairs else 1
        return next(
            count
            for count in range(1, share + 1)
            if share % count == 0
            and (share // count <= self.micro_batch)
            and (share // count % unit == 0)
        )

    @property
    def held(self) -> int:
        """Images of a micro-batch."""
        return self.batch // self.world // self.accumulation

    def epoch(self, epoch: int, *, first_step: int = 0) -> Iterator[Step]:
        """Steps of one epoch, from `first_step` on."""
        order = permutation(self.images, seed=self.seed, epoch=epoch)
        share = self.batch // self.world
        for number in range(first_step, self.steps_per_epoch):
            positions = order[number * self.batch : (number + 1) * self.batch]
            mine = positions[self.rank * share : (self.rank + 1) * share]
            yield Step(
                epoch=epoch,
                number=number,
                positions=positions,
                micro_batches=tuple(np.split(mine.repeat(self.views), self.accumulation)),
            )
