"""Pictures of a restoration: the image, what the model sees of it, and what it makes of that."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from mfm.data.settings import IMAGENET_MEAN, IMAGENET_STD
from mfm.numerics.pixels import denormalise
from mfm.objectives.reconstructions import Reconstructions
from mfm.objectives.restoration.degradations import Keys
from mfm.objectives.restoration.objective import Restoration


class RestorationPictures(Reconstructions):
    """Predictions from degraded images."""

    captions: Mapping[str, str] = {
        "epochs": "What the model makes of the input, as the training goes on. If pretraining "
        "works, these come nearer to the image from left to right.",
        "reconstructions": "What the trained model is given, what it makes of that, and the image "
        "that it should have made. The loss compares the two on all frequencies.",
    }
    loss: ClassVar[str] = "whole"

    def __init__(self, task: Restoration, *, title: str) -> None:
        super().__init__(title=title)
        self._task = task

    def predict(self, model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """The normalised image [n, 3, H, W]."""
        predictions = model(self._corrupted(images)).float()
        return predictions, self._task.image_losses(predictions, images)

    def answers(self, images: Tensor) -> Tensor:
        """The normalised image."""
        return self._task.target(images)

    def inputs(self, images: Tensor) -> Tensor:
        """Degraded."""
        return self.shown(self._corrupted(images), images)

    def shown(self, predictions: Tensor, images: Tensor) -> Tensor:
        """In [0, 1] again."""
        return denormalise(predictions, mean=IMAGENET_MEAN, std=IMAGENET_STD)

    def _corrupted(self, images: Tensor) -> Tensor:
        return self._task.corrupt(images, Keys(seed=0, epoch=0, rows=np.arange(len(images))))
