"""Step of a task that masks patches: draw the masks, predict, compare on what was masked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from mfm.data.loading.batches import Batch, to_float
from mfm.data.loading.order import Step
from mfm.data.settings import IMAGENET_MEAN, IMAGENET_STD
from mfm.numerics.draws import Ints
from mfm.numerics.pixels import normalise
from mfm.objectives.masking.masks import draw_masks

# Predictions, normalised images [N, 3, H, W] and masks to a loss for each image.
ImageLosses = Callable[[Tensor, Tensor, Tensor], Tensor]
# Predictions and normalised images to normalised images.
Images = Callable[[Tensor, Tensor], Tensor]


def _images(predictions: Tensor, target: Tensor) -> Tensor:
    """Predictions that are images."""
    return predictions


def _answers(target: Tensor) -> Tensor:
    """What is right where predictions are images."""
    return target


@dataclass(frozen=True, kw_only=True)
class Masking:
    """What is masked of images of one size, and what a prediction of that costs."""

    side: int  # patches along a side of the image
    count: int  # of masked patches
    image_losses: ImageLosses
    as_images: Images = _images
    answers: Callable[[Tensor], Tensor] = _answers  # normalised images to what is to be predicted
    note: str = ""  # on predictions as they are shown, at the end of their captions

    def draw(self, *, seed: int, epoch: int, rows: Ints) -> Tensor:
        """Masks of images: bool [n, side, side], on the CPU."""
        return draw_masks(seed=seed, epoch=epoch, rows=rows, side=self.side, count=self.count)

    def look(self, model: nn.Module, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions of images in [0, 1], and each image's loss."""
        target = normalise(images, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        masks = masks.to(images.device, non_blocking=True)
        prediction = model(target, masks)
        return prediction, self.image_losses(prediction, target, masks)


class MaskingObjective:
    """One step's loss (see `mfm.training.task.Objective`)."""

    def __init__(self, masking: Masking, *, rows: Ints, seed: int) -> None:
        self._masking = masking
        self._rows = rows  # [images], what random draws are keyed by
        self._seed = seed

    def __call__(self, model: nn.Module, batch: Batch, step: Step) -> Tensor:
        """This micro-batch's share of the step's mean over images, which all mask as much."""
        rows = self._rows[batch.positions.numpy()]
        masks = self._masking.draw(seed=self._seed, epoch=step.epoch, rows=rows)
        _, losses = self._masking.look(model, to_float(batch.images), masks)
        return losses.sum() / len(step.positions)
