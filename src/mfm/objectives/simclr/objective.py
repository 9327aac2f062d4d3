"""Step of SimCLR: distort the views, project them, tell pairs from all others of the step."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mfm.data.loading.batches import Batch, numbers_of_views, to_float
from mfm.data.loading.order import Step
from mfm.data.settings import IMAGENET_MEAN, IMAGENET_STD
from mfm.numerics.draws import Ints, of_views
from mfm.numerics.pixels import normalise
from mfm.objectives.simclr.views import Distortion
from mfm.processes.ranks import gather_rows


class SimclrObjective:
    """One step's loss (see `mfm.training.task.Objective`)."""

    def __init__(self, distort: Distortion, *, temperature: float, rows: Ints, seed: int) -> None:
        self._distort = distort
        self._temperature = temperature
        self._rows = rows  # [images], what random draws are keyed by
        self._seed = seed

    def views(self, batch: Batch, *, epoch: int) -> Tensor:
        """What the network sees: float32 [2 n, 3, H, W], the two views of an image in a row."""
        positions = batch.positions.numpy()
        indices = of_views(self._rows[positions], numbers_of_views(positions))
        views = self._distort(to_float(batch.images), seed=self._seed, epoch=epoch, indices=indices)
        return normalise(views, mean=IMAGENET_MEAN, std=IMAGENET_STD)

    def __call__(self, model: nn.Module, batch: Batch, step: Step) -> Tensor:
        """This rank's share of the step's mean over views."""
        projections = model(self.views(batch, epoch=step.epoch))
        whole = 2 * len(step.positions)
        with torch.autocast(projections.device.type, enabled=False):
            own = F.normalize(projections.float(), dim=1)
            every, first = (own, 0) if len(own) == whole else gather_rows(own)
            losses = nt_xent(own, every, first=first, temperature=self._temperature)
        return losses.sum() / whole


def nt_xent(own: Tensor, every: Tensor, *, first: int, temperature: float) -> Tensor:
    """Loss of each of one rank's views among all of a step's, [2 N, width] of length 1: [2 n].

    The rank's are `every` from `first` on. Rows 2k and 2k+1 are the views of an image: of a row's
    cosines with all other rows, over the temperature, that with its partner is to be told (arXiv
    2002.05709, equation 1).
    """
    places = torch.arange(first, first + len(own), device=own.device)
    itself = places[:, None] == torch.arange(len(every), device=own.device)
    cosines = (own @ every.T / temperature).masked_fill(itself, -torch.inf)
    return F.cross_entropy(cosines, places ^ 1, reduction="none")
