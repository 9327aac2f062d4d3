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
            "trained model predicts for them, put into the image; and the image. Between them, "
            "what the loss compares: the masked patches alone, as they are predicted and as they "
            f"are.{masking.note}",
        }

    def predict(self, model: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
        """As the model gives it."""
        return self._masking.look(model, images, self._masks(images))

    def answers(self, images: Tensor) -> Tensor:
        """The pixels of all patches, as the model is to give them."""
        return self._masking.answers(normalise(images, mean=IMAGENET_MEAN, std=IMAGENET_STD))

    def inputs(self, images: Tensor) -> Tensor:
        """Masked patches filled."""
        return filled(images, self._masks(images))

    def shown(self, predictions: Tensor, images: Tensor) -> Tensor:
        """Masked patches as predicted: what is predicted for the others is in no loss."""
        target = normalise(images, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        predicted = denormalise(
            self._masking.as_images(predictions, target), mean=IMAGENET_MEAN, std=IMAGENET_STD
        )
        return torch.where(self._masked(images), predicted, images)

    def compared(self, predicted: Tensor, images: Tensor) -> dict[str, Tensor]:
        """Masked patches on white."""
        masked, white = self._masked(images), torch.ones(())
        return {
            "masked,\npredicted": torch.where(masked, predicted, white),
            "masked,\nimage": torch.where(masked, images, white),
        }

    def _masked(self, images: Tensor) -> Tensor:
        """Masked pixels: bool [n, 1, H, W]."""
        return enlarged(self._masks(images), images.shape[-1])[:, None]

    def _masks(self, images: Tensor) -> Tensor:
        return self._masking.draw(seed=0, epoch=0, rows=np.arange(len(images)))
