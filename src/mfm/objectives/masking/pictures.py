"""Pictures of masked patches: what is left of the image, what is predicted, the image."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from mfm.data.settings import IMAGENET_MEAN, IMAGENET_STD
from mfm.numerics.pixels import denormalise, normalise
from mfm.objectives.masking.masks import enlarged, filled
from mfm.objectives.masking.objective import Masking
from mfm.objectives.reconstructions import Reconstructions


class MaskingPictures(Reconstructions):
    """Predictions of masked patches, put into the image."""

    loss: ClassVar[str] = "masked"

    def __init__(self, masking: Masking, *, title: str) -> None:
        super().__init__(title=title)
        self._masking = masking
        self.captions = {
            "epochs": "The image, its masked patches as the model predicts them, as the training "
            "goes on. If pretraining works, these come nearer to the image from left to right."
            f"{masking.note}",
            "reconstructions": "Patches that are masked, here in the image's mean colour; what the "
            f"trained model predicts for them, put into the image; and the image.{masking.note}",
        }

    def predict(self, model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """As the model gives it."""
        return self._masking.look(model, images, self._masks(images))

    def inputs(self, images: Tensor) -> Tensor:
        """Masked patches filled."""
        return filled(images, self._masks(images))

    def shown(self, predictions: Tensor, images: Tensor) -> Tensor:
        """Masked patches as predicted: what is predicted for the others is in no loss."""
        target = normalise(images, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        predicted = denormalise(
            self._masking.as_images(predictions, target), mean=IMAGENET_MEAN, std=IMAGENET_STD
        )
        pixels = enlarged(self._masks(images), images.shape[-1])
        return torch.where(pixels[:, None], predicted, images)

    def _masks(self, images: Tensor) -> Tensor:
        return self._masking.draw(seed=0, epoch=0, rows=np.arange(len(images)))
