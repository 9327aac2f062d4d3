"""Recipe of training with labels: loss, smoothing, mixing, augmentation, normalisation."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from mfm.data.settings import IMAGENET_MEAN, IMAGENET_STD, RandAugment
from mfm.settings.section import PerChannel, PositivePerChannel
from mfm.training.settings import Training


class Supervision(Training):
    """Training with labels: finetuning, and the supervised pretraining."""

    loss: Literal["bce", "ce"] = Field(
        "ce", description="'bce': binary cross-entropy per class (upstream), 'ce': softmax."
    )
    smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Label smoothing: 1 - s on the class, s / (classes - 1) on each other.",
    )
    smoothing_over: Literal["others", "all"] = Field(
        "others",
        description="Classes that label smoothing spreads s over: all others (upstream), or all, "
        "the image's own included: s / classes more on each (paper, timm).",
    )
    bce_threshold: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="BCE: targets above it, after mixing, become 1 and all others 0 (RSB: 0.2); "
        "null keeps them as they are.",
    )
    mixup: float = Field(0.0, ge=0, description="Alpha of mixup; 0 is off.")
    cutmix: float = Field(0.0, ge=0, description="Alpha of cutmix; 0 is off. With both, half each.")
    randaugment: RandAugment | None = Field(None, description="RandAugment; null is off.")
    erasing: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Probability that a rectangle of 2 to 33% of the normalised image becomes "
        "Gaussian noise, before mixing; 0 is off.",
    )
    mean: PerChannel = Field(IMAGENET_MEAN, description="Mean subtracted from images in [0, 1].")
    std: PositivePerChannel = Field(
        IMAGENET_STD, description="Standard deviation images are divided by."
    )

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if (self.mixup or self.cutmix) and (self.batch // self.ranks) % 2:
            raise ValueError("mixup and cutmix pair images: batch / ranks has to be even")
        if (self.mixup or self.cutmix) and self.micro_batch % 2:
            raise ValueError("mixup and cutmix pair images: micro_batch has to be even")
        return self

    @model_validator(mode="after")
    def _threshold(self) -> Self:
        if self.bce_threshold is not None and self.loss != "bce":
            raise ValueError("bce_threshold is for loss: bce")
        return self

    def normalisation(self) -> tuple[PerChannel, PerChannel]:
        """The settings' own."""
        return self.mean, self.std
