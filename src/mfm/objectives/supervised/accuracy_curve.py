"""Top-1 of a few evaluation images as a finetuning goes on: to look at, never to choose by."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from mfm.data.linking import manifest
from mfm.data.loading.batches import Batch, EvalBatches, to_float
from mfm.files.atomic import explaining_full_disk, write_text
from mfm.numerics import precision
from mfm.numerics.pixels import normalise
from mfm.objectives.supervised.settings import Finetuning

NAME = "accuracy.csv"
_BATCH = 50  # images at a time: they need less memory than a training step
_POINTS = 10  # measured epochs, at most, besides the start


def fixed_images(
    training: Finetuning, split: str, *, size: int, manifest_path: Path
) -> list[Batch]:
    """The images that are measured on, in batches: evenly spread over the split.

    Short side at the training's crop size and centre cropped, whatever `evaluate` says: a
    finetuning doesn't depend on that section, and its network may take one size only.
    """
    images = manifest.load(manifest_path, split)
    count = min(training.curve_images, len(images))
    chosen = np.unique(np.linspace(0, len(images) - 1, count).astype(np.int64))
    batches = EvalBatches(images, resize=size, crop=size, interpolation=training.crop.interpolation)
    return [
        batches.batch((0, chosen[start : start + _BATCH]))
        for start in range(0, len(chosen), _BATCH)
    ]


class AccuracyCurve:
    """Measures a training at some of its epochs (see `observe` in `mfm.training.loop`).

    Not part of the training's state, which it leaves as it was: a resumed run measures again, with
    the same result, what its checkpoint doesn't know of.
    """

    def __init__(
        self, file: Path, *, training: Finetuning, images: list[Batch], steps_per_epoch: int
    ) -> None:
        """`file` gets the columns epoch and top1, in percent."""
        self._file = file
        self._training = training
        self._images = images
        points = np.linspace(0, training.epochs, min(training.epochs, _POINTS) + 1)
        self._steps = {int(epoch) * steps_per_epoch: int(epoch) for epoch in points.round()}

    def __call__(self, model: nn.Module, done: int) -> None:
        """Measure, if `done` steps end one of the epochs."""
        epoch = self._steps.get(done)
        if epoch is None:
            return
        there = self._file.read_text().splitlines()[1:] if self._file.exists() else []
        rows = [row for row in there if int(row.split(",")[0]) < epoch]
        rows.append(f"{epoch},{self._top1(model)}")
        with explaining_full_disk(self._file):
            write_text(self._file, "\n".join(["epoch,top1", *rows, ""]))

    def _top1(self, model: nn.Module) -> float:
        training, device = self._training, next(model.parameters()).device
        number_format = precision.resolve(training.precision, device)
        was_training, hits, count = model.training, 0, 0
        model.eval()
        with torch.inference_mode():
            for batch in (batch.to(device) for batch in self._images):
                pixels = normalise(to_float(batch.images), mean=training.mean, std=training.std)
                with precision.autocast(number_format, device):
                    logits = model(pixels)
                hits += int((logits.argmax(dim=1) == batch.labels).sum())
                count += len(batch.labels)
        model.train(was_training)
        return 100 * hits / count
