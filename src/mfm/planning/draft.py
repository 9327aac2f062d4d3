"""Draft of an experiment: what its settings are, by the pictures, the machine, and a few choices.

What fits follows from the pictures and the machine; a budget cuts `Draft`'s own fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

from mfm.data.settings import LoaderName
from mfm.experiment.settings import Experiment
from mfm.planning.machine import Machine
from mfm.planning.pictures import Pictures
from mfm.settings.section import parse

SIZES = (32, 64, 96, 128, 160, 192, 224)
LARGEST = {True: 224, False: 96}  # with a GPU, and without
ENLARGED = 1.15  # images may be so much smaller than what the network sees
LARGE_SET = 50_000  # images, from which a GPU trains a ResNet-50
# Optimizer steps of a training, and the fewest and the most epochs that they are made of.
STEPS = {True: (30_000, 10_000), False: (3_000, 1_500)}
EPOCHS = {"pretrain": (5, 400), "finetune": (10, 200)}
BATCH = {True: 256, False: 64}  # the largest
STEPS_IN_EPOCH = 16  # at least, where the batch can be small enough
PIXELS_OF_FLOORS = 10_000_000  # values that a logistic regression on pixels is to read


@dataclass(frozen=True, kw_only=True)
class Draft:
    """An experiment of a kind, and how large it is."""

    pictures: Pictures
    machine: Machine
    results: str
    size: int  # side of an image in pixels
    pretrainings: int
    deviation: float  # expected of one run's difference, in points
    loader: LoaderName = "torchvision"
    length: float = 1.0  # share of the epochs that fit
    held: int = 256  # most images at once, where a GPU has memory for so many

    @property
    def gpu(self) -> bool:
        """Whether there is one."""
        return bool(self.machine.gpus)

    def batch(self, stage: str) -> int:
        """Images of a step: a power of two, of which an epoch has some."""
        images = self._images(stage)
        wanted = max(8, min(BATCH[self.gpu], images // STEPS_IN_EPOCH))
        return 1 << (min(wanted, images).bit_length() - 1)

    def epochs(self, stage: str) -> int:
        """Passes that make up the steps."""
        steps = STEPS[self.gpu][stage == "finetune"]
        fewest, most = EPOCHS[stage]
        fitting = min(most, max(fewest, ceil(steps / (self._images(stage) // self.batch(stage)))))
        return max(1, round(fitting * self.length))

    def _images(self, stage: str) -> int:
        pictures = self.pictures
        return pictures.pretraining_images if stage == "pretrain" else pictures.images["train"]

    @property
    def floors(self) -> bool:
        """Whether logistic regression on raw pixels takes seconds and not hours."""
        channels = self.pictures.dataset.channels or 3
        return channels * self.size**2 * self.pictures.images["train"] <= PIXELS_OF_FLOORS

    @property
    def experiment(self) -> Experiment:
        """The whole experiment."""
        return parse(Experiment, self._values(), where="the drafted experiment")

    def _values(self) -> dict[str, Any]:
        dataset = self.pictures.dataset.model_copy(update={"image_size": self.size})
        val = self.pictures.images["val"]
        seeds = list(range(self.pretrainings))
        large = self.size > 64
        return {
            "results": self.results,
            "seeds": seeds,
            "baseline": "scratch",
            "question": {
                "arm": "mfm",
                "baseline": "scratch-long",
                "deviation": self.deviation,
            },
            "dataset": dataset.model_dump(),
            "loader": self.loader,
            "model": self._model(),
            "pretrain": {
                "mfm": {
                    "task": "mfm",
                    "recipe": "paper",
                    "seeds": seeds,
                    **self._recipe("pretrain", rate=1e-3),
                    "reconstructions": min(8, val),
                }
            },
            "arms": {
                "scratch": "scratch",
                "scratch-long": {"as_long_as": "mfm"},
                "mfm": {"pretrain": "mfm"},
            },
            "finetune": {
                **self._recipe("finetune", rate=1e-3 if self.gpu else 2e-3),
                "crop": {"area": (0.35, 1.0)},
                "curve_images": min(200, val),
            },
            "evaluate": {
                "resize": round(self.size * 8 / 7) if large else self.size,
                "crop": self.size,
                "batch": min(64 if large else 250, val),
                "precision": "auto",
            },
            "frozen": {} if self.floors else None,
        }

    def _model(self) -> dict[str, Any]:
        stem = 1 if self.size < 64 else 2 if self.size < 128 else 4
        if self.gpu:
            large = self.pictures.pretraining_images >= LARGE_SET and self.size >= 128
            return {"backbone": "resnet50" if large else "resnet18", "stem_stride": stem}
        options = {"layers": [1, 1, 1, 1], "channels": [32, 64, 128, 256]}
        return {"backbone": "resnet18", "stem_stride": stem, "options": options}

    def _recipe(self, stage: str, *, rate: float) -> dict[str, Any]:
        batch, epochs = self.batch(stage), self.epochs(stage)
        return {
            "epochs": epochs,
            "batch": batch,
            "micro_batch": min(batch, self.held),
            "optimizer": {"lr": rate, "lr_batch": batch},
            "schedule": {"warmup_epochs": round(epochs / 20, 1), "per": "step"},
        }


def fitting_size(side: int, *, gpu: bool) -> int:
    """The largest size that the images have, and the machine has time for."""
    fit = [size for size in SIZES if size <= min(side * ENLARGED, LARGEST[gpu])]
    return fit[-1] if fit else SIZES[0]
