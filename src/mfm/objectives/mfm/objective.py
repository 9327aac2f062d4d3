"""Step of masked frequency modeling: which band each image loses, and the loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mfm.data.loading.batches import Batch, to_float
from mfm.data.loading.order import Step
from mfm.numerics.draws import Ints, Stream, uniforms
from mfm.objectives.mfm.task import MaskedFrequencyModeling


class MfmObjective:
    """One step's masked frequency modeling loss (see `mfm.training.task.Objective`)."""

    def __init__(self, task: MaskedFrequencyModeling, *, rows: Ints, seed: int, size: int):
        self._task = task
        self._rows = rows  # [images], what random draws are keyed by
        self._seed = seed
        self._size = size

    def keep_low(self, positions: Ints, *, epoch: int) -> Tensor:
        """Which images keep their low frequencies, by (seed, epoch, image): bool [n]."""
        draws = uniforms(
            seed=self._seed,
            epoch=epoch,
            stream=Stream.KEEP_LOW,
            indices=self._rows[positions],
        )[:, 0]
        return torch.from_numpy(draws < self._task.low_pass_share)

    def __call__(self, model: nn.Module, batch: Batch, step: Step) -> Tensor:
        """This rank's share of the step's loss."""
        images = to_float(batch.images)
        keep_low = self.keep_low(batch.positions.numpy(), epoch=step.epoch)
        # The whole step's weight follows from the draws alone: no rank has to ask another.
        step_keep = self.keep_low(step.positions, epoch=step.epoch)
        sides = {"height": self._size, "width": self._size}
        weights = self._task.image_weights(keep_low, **sides)
        step_weight = self._task.image_weights(step_keep, **sides).sum()
        # keep_low stays on the host, where the objective needs it too: no wait for the GPU.
        shares = (weights / step_weight).float().to(images.device, non_blocking=True)

        prediction = model(self._task.corrupt(images, keep_low))
        return (self._task.image_losses(prediction, images, keep_low) * shares).sum()
