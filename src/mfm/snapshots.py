"""What a masked-frequency model predicts for a few fixed images, as its training goes on."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from mfm import config
from mfm.atomic import replacing
from mfm.checkpoint import explaining_full_disk
from mfm.data import manifest
from mfm.data.loader import EvalBatches, to_float
from mfm.errors import UserError
from mfm.objectives import MaskedFrequencyModeling

FOLDER = "snapshots"
# Of the training's steps: a model learns most in its first percents.
_SHARES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)


def fixed_images(
    training: config.MfmPretraining, *, manifest_path: Path, size: int
) -> Tensor | None:
    """The validation images that are shown: float32 [n, 3, size, size] in [0, 1], or None for 0."""
    if training.reconstructions == 0:
        return None
    images = manifest.load(manifest_path, "val")
    # Evenly spread over the manifest, which is sorted by class.
    chosen = np.linspace(0, len(images) - 1, min(training.reconstructions, len(images)))
    batches = EvalBatches(images, resize=size, crop=size, interpolation="bilinear")
    return to_float(batches.batch((0, np.unique(chosen.astype(np.int64)))).images)


@dataclass(frozen=True, kw_only=True)
class Band:
    """What the model makes of one band of the images."""

    inputs: Tensor  # [n, 3, H, W]
    predictions: Tensor  # [n, out_channels, H, W]
    loss: float  # mean over the images


def look(model: nn.Module, task: MaskedFrequencyModeling, images: Tensor, *, low: bool) -> Band:
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


class Snapshots:
    """Keeps predictions of a training at a few of its steps (see `observe` in mfm.engine.train).

    Not part of the training's state: a resumed run writes again, with the same values, what its
    checkpoint doesn't know of.
    """

    def __init__(
        self,
        folder: Path,
        *,
        task: MaskedFrequencyModeling,
        images: Tensor,
        epochs: int,
        steps_per_epoch: int,
    ) -> None:
        self._folder = folder
        self._task = task
        self._images = images
        self._steps_per_epoch = steps_per_epoch
        self._steps = frozenset(round(share * epochs * steps_per_epoch) for share in _SHARES)

    def __call__(self, model: nn.Module, done: int) -> None:
        """Predict and save, if `done` is one of the steps."""
        if done not in self._steps:
            return
        if done == 0:
            shutil.rmtree(self._folder, ignore_errors=True)
        images = self._images.to(next(model.parameters()).device)
        values = {"epoch": torch.tensor(done / self._steps_per_epoch, dtype=torch.float64)}
        for name, low in (("low", True), ("high", False)):
            band = look(model, self._task, images, low=low)
            # To be looked at: half the bytes are enough.
            values[f"prediction_{name}"] = band.predictions.half().contiguous()
            values[f"loss_{name}"] = torch.tensor(band.loss, dtype=torch.float64)
        path = self._folder / f"step{done:09d}.safetensors"
        with explaining_full_disk(path), replacing(path) as temporary:
            safetensors.torch.save_file(values, temporary)
            temporary.chmod(0o644)  # safetensors leaves it to its owner alone


def load(folder: Path) -> dict[float, dict[str, Tensor]]:
    """The snapshots of a run by the epochs done, in order.

    `prediction_low` and `prediction_high` are float16 [n, out_channels, H, W], `loss_low` and
    `loss_high` scalars. Empty for a run that kept none.

    Raises UserError for a damaged file.
    """
    found = {}
    for path in sorted(folder.glob("step*.safetensors")):
        try:
            values = safetensors.torch.load_file(path)
        except safetensors.SafetensorError:
            raise UserError(f"{path} is damaged; remove it") from None
        found[values.pop("epoch").item()] = values
    return found
