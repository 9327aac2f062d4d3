"""Step of a restoration: the degraded image goes in, the image is to come out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mfm.data.loading.batches import Batch, to_float
from mfm.data.loading.order import Step
from mfm.data.settings import IMAGENET_MEAN, IMAGENET_STD
from mfm.numerics.draws import Ints
from mfm.numerics.pixels import normalise
from mfm.objectives.mfm.distance import whole_distance
from mfm.objectives.mfm.frequency import layout_of
from mfm.objectives.restoration.degradations import Degradation, Keys

_EPSILON = 1e-12  # of the distance, as in MFM's recipe 'paper'


class Restoration:
    """Mathematics: degrade images; compare a prediction with them on all frequencies.

    The loss is that of MFM's recipe 'paper' with nothing masked (official code, models/mfm.py,
    RECOVER_TARGET_TYPE 'normal').
    """

    def __init__(self, degrade: Degradation) -> None:
        self._degrade = degrade

    def corrupt(self, images: Tensor, keys: Keys) -> Tensor:
        """The network's input: float32 [N, 3, H, W] in [0, 1] degraded, then normalised."""
        with torch.autocast(images.device.type, enabled=False):
            degraded = self._degrade(images, keys)
            return self.target(degraded.contiguous(memory_format=layout_of(images)))

    def target(self, images: Tensor) -> Tensor:
        """Images in [0, 1], normalised as ImageNet's."""
        return normalise(images, mean=IMAGENET_MEAN, std=IMAGENET_STD)

    def image_losses(self, prediction: Tensor, images: Tensor) -> Tensor:
        """Mean distance over each image's frequencies and channels: [N]."""
        with torch.autocast(images.device.type, enabled=False):
            difference = prediction.to(images.dtype) - self.target(images)
            return whole_distance(difference, epsilon=_EPSILON) / images[0].numel()


class RestorationObjective:
    """One step's loss (see `mfm.training.task.Objective`)."""

    def __init__(self, task: Restoration, *, rows: Ints, seed: int) -> None:
        self._task = task
        self._rows = rows  # [images], what random draws are keyed by
        self._seed = seed

    def __call__(self, model: nn.Module, batch: Batch, step: Step) -> Tensor:
        """This micro-batch's share of the step's mean over images."""
        images = to_float(batch.images)
        rows = self._rows[batch.positions.numpy()]
        keys = Keys(seed=self._seed, epoch=step.epoch, rows=rows)
        prediction = model(self._task.corrupt(images, keys))
        return self._task.image_losses(prediction, images).sum() / len(step.positions)
