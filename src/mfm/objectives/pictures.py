"""Pictures of a pretraining: what its model makes of a few fixed images, as the training goes on.

A task that has some says how its model looks at the images, and how what it saw is drawn. The
snapshots of a run are undeclared files in its folder; the finished pictures are a folder with a
list of what they show.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from mfm.data.linking import manifest
from mfm.data.loading.batches import EvalBatches, to_float
from mfm.errors import UserError
from mfm.files.atomic import explaining_full_disk, open_to_others, replacing

if TYPE_CHECKING:  # a training keeps snapshots and draws nothing
    from matplotlib.figure import Figure

SNAPSHOTS = "snapshots"  # folder of a run
# Of the training's steps: a model learns most in its first percents.
_SHARES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)

Seen = dict[str, Tensor]  # what a look saw; its losses are scalars, with names 'loss_...'


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure of a pretraining."""

    name: str  # of its file, without the ending
    figure: Figure
    caption: str


class Pictures(ABC):
    """What one task shows."""

    @abstractmethod
    def look(self, model: nn.Module, images: Tensor) -> Seen:
        """What the model makes of images, float32 [n, 3, H, W] in [0, 1]. It is left as it was."""

    @abstractmethod
    def answers(self, images: Tensor) -> Tensor:
        """What a model without error would predict of images: [n, ...]."""

    @abstractmethod
    def draw(
        self, model: nn.Module, images: Tensor, kept: Mapping[float, Seen], *, name: str
    ) -> list[Picture]:
        """Figures of the trained model and of what was seen on its way, by the epochs done."""


def fixed_images(count: int, *, manifest_path: Path, size: int, split: str = "val") -> Tensor:
    """Images of a split, the validation images that are shown: float32 [n, 3, size, size].

    In [0, 1].
    """
    images = manifest.load(manifest_path, split)
    # Evenly spread over the manifest, which is sorted by class.
    chosen = np.linspace(0, len(images) - 1, min(count, len(images)))
    batches = EvalBatches(images, resize=size, crop=size, interpolation="bilinear")
    return to_float(batches.batch((0, np.unique(chosen.astype(np.int64)))).images)


class Snapshots:
    """Keeps what is seen at a few steps of a training (see `observe` in `mfm.training.loop`).

    Not part of the training's state: a resumed run writes again, with the same values, what its
    checkpoint doesn't know of.
    """

    def __init__(
        self, run: Path, *, pictures: Pictures, images: Tensor, epochs: int, steps_per_epoch: int
    ) -> None:
        self._folder = run / SNAPSHOTS
        self._pictures = pictures
        self._images = images
        self._steps_per_epoch = steps_per_epoch
        self._steps = frozenset(round(share * epochs * steps_per_epoch) for share in _SHARES)

    def __call__(self, model: nn.Module, done: int) -> None:
        """Look and save, if `done` is one of the steps."""
        if done not in self._steps:
            return
        if done == 0:
            shutil.rmtree(self._folder, ignore_errors=True)
        images = self._images.to(next(model.parameters()).device)
        values = {"epoch": torch.tensor(done / self._steps_per_epoch, dtype=torch.float64)}
        for name, tensor in self._pictures.look(model, images).items():
            # To be looked at: half the bytes are enough. Losses are kept whole.
            values[name] = tensor.half().contiguous() if tensor.ndim else tensor
        path = self._folder / f"step{done:09d}.safetensors"
        with explaining_full_disk(path), replacing(path) as temporary:
            safetensors.torch.save_file(values, temporary)
            open_to_others(temporary)


def load_snapshots(run: Path) -> dict[float, Seen]:
    """The snapshots of a run by the epochs done, in order; empty for a run that kept none.

    Raises UserError for a damaged file.
    """
    found = {}
    for path in sorted((run / SNAPSHOTS).glob("step*.safetensors")):
        try:
            values = safetensors.torch.load_file(path)
        except safetensors.SafetensorError:
            raise UserError(f"{path} is damaged; remove it") from None
        found[values.pop("epoch").item()] = values
    return found
