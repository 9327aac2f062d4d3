"""Settings of the evaluation that the table is made of."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from mfm.settings.section import PerChannel, PositivePerChannel, Section
from mfm.training.job import Job


class Classification(Section):
    """Evaluation of the last epoch's weights on whole images."""

    split: Literal["val", "holdout"] = Field(
        "val",
        description="Images that accuracies are measured on: 'val', or the training images that "
        "dataset.holdout_per_class sets aside.",
    )
    resize: int = Field(
        32, ge=8, le=4096, description="Short side in pixels, before the centre crop."
    )
    crop: int = Field(32, ge=8, le=4096, description="Side of the centre crop in pixels.")
    interpolation: Literal["bilinear", "bicubic"] = Field("bilinear", description="Resampling.")
    batch: int = Field(250, ge=1, description="Images at once; no influence on the metrics.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "fp32", description="Number format of the forward pass; 'auto' as in training."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.crop > self.resize:
            raise ValueError("crop is cut from the resized image, so crop <= resize")
        return self


class Shown(Classification):
    """Evaluation, and what is computed from its predictions: no job of its own depends on that."""

    top_k: int = Field(5, ge=2, description="How many best classes the metric top-k looks at.")


class ClassificationJob(Job):
    """What predictions depend on, besides weights and images."""

    mean: PerChannel = Field(description="Normalisation of the finetuning.")
    std: PositivePerChannel = Field(description="Normalisation of the finetuning.")
    evaluation: Classification = Field(description="Evaluation.")

    @property
    def splits(self) -> list[str]:
        """The splits of the dataset that it reads images of."""
        return [self.evaluation.split]
