"""Bands of images: what a model makes of the low, or of the high frequencies alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mfm.objectives.mfm.frequency import keep_band
from mfm.objectives.mfm.task import MaskedFrequencyModeling


@dataclass(frozen=True, kw_only=True)
class Band:
    """What the model makes of one band of the images."""

    inputs: Tensor  # [n, 3, H, W]
    predictions: Tensor  # [n, out_channels, H, W]
    loss: float  # mean over the images


def look_at_band(
    model: nn.Module, task: MaskedFrequencyModeling, images: Tensor, *, low: bool
) -> Band:
    """Predict from the low or the high frequencies of all images. The model is left as it was."""
    training = model.training
    model.eval()
    with torch.inference_mode():
        keep_low = torch.full((len(images),), low)
        inputs = task.corrupt(images, keep_low)
        predictions = model(inputs).float()
        loss = task.image_losses(predictions, images, keep_low).mean().item()
    model.train(training)
    return Band(inputs=inputs.cpu(), predictions=predictions.cpu(), loss=loss)


def removed(task: MaskedFrequencyModeling, values: Tensor, *, low: bool) -> Tensor:
    """What the loss sees of targets or predictions [n, C, H, W]: the frequencies that were removed.

    `low`: the inputs kept low frequencies. What a model predicts for those is in no loss.
    """
    return keep_band(values, torch.full((len(values),), not low), task.radius)


def completed(
    task: MaskedFrequencyModeling, images: Tensor, predictions: Tensor, *, low: bool
) -> Tensor:
    """The target with the removed frequencies replaced by the predicted ones: [n, C, H, W]."""
    target = task.target(images)
    return target + removed(task, predictions - target, low=low)
