"""Settings of SimCLR (Chen et al., ICML 2020, arXiv 2002.05709)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from mfm.data.settings import Crop
from mfm.models.settings import Model
from mfm.objectives.pretext import Pretext
from mfm.settings.section import Range
from mfm.training.task import Inputs, Task

if TYPE_CHECKING:  # settings are read without importing torch
    from torch import Tensor

_LARGE = 64  # pixels, from which on images are distorted as ImageNet's, and below as CIFAR's


class ViewCrop(Crop):
    """Random resized crop and flip of each view."""

    area: Range = Field(
        (0.08, 1.0), description="Range of the crop's share of the image area (SimCLR)."
    )


class SimclrPretraining(Pretext):
    """SimCLR: two views of an image are to be told from the views of all other images.

    Defaults: the paper's, and google-research/simclr, commit 383d414, run.py and README.md.
    """

    views: ClassVar[int] = 2
    rgb_alone: ClassVar[bool] = True  # of its jitter and its grey

    task: Literal["simclr"] = Field(description="Pretraining task.")
    temperature: float = Field(0.1, gt=0, description="Temperature of the loss, NT-Xent (SimCLR).")
    jitter: float | None = Field(
        None,
        ge=0,
        description="Strength of the colour jitter; null is 1 from 64 px on, as for ImageNet, and "
        "0.5 below, as for CIFAR-10 (SimCLR).",
    )
    blur: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Probability of a Gaussian blur; null is 0.5 from 64 px on, as for ImageNet, "
        "and 0 below, as for CIFAR-10 (SimCLR).",
    )
    projection: int = Field(
        128, ge=1, description="Width of what the two-layer projection gives (SimCLR)."
    )
    projection_batchnorm: bool = Field(
        True,
        description="Batch norm after both layers of the projection, as in SimCLR's code; false is "
        "as its paper's formula has it.",
    )
    crop: ViewCrop = Field(ViewCrop(), description="Random resized crop and flip of each view.")

    @model_validator(mode="after")
    def _whole_batch(self) -> Self:
        share = self.batch // self.ranks
        if self.batch < 2:
            raise ValueError(
                "simclr tells an image from others of its batch: raise batch to 2 or more"
            )
        if self.micro_batch < share:
            raise ValueError(
                "simclr compares all images of a batch and accumulates nothing: raise micro_batch "
                f"to {share}, or lower batch"
            )
        return self

    @property
    def title(self) -> str:
        """'SimCLR'."""
        return "SimCLR"

    def describe(self, *, model: Model, size: int) -> str:
        """With temperature and distortions."""
        jitter, blur = self._distortions(size)
        return (
            f"SimCLR, temperature {self.temperature:g}, two views with colour jitter {jitter:g} "
            f"and blur of {blur:.0%}"
        )

    @property
    def constant_loss(self) -> float:
        """Each view's partner is one of 2 N - 1 others, all alike."""
        return math.log(2 * self.batch - 1)

    def build(self, inputs: Inputs) -> Task:
        """Backbone and projection, and the loss on their views."""
        import torch

        from mfm.objectives.simclr.model import create_simclr_model
        from mfm.objectives.simclr.objective import SimclrObjective
        from mfm.objectives.simclr.views import Distortion

        torch.manual_seed(inputs.seed)
        model = create_simclr_model(
            inputs.model,
            size=inputs.size,
            width=self.projection,
            batchnorm=self.projection_batchnorm,
        )
        jitter, blur = self._distortions(inputs.size)
        objective = SimclrObjective(
            Distortion(jitter=jitter, blur=blur),
            temperature=self.temperature,
            rows=inputs.rows,
            seed=inputs.seed,
        )
        return Task(model=model, backbone=model.backbone, objective=objective)

    def load_head(self, task: Task, tensors: Mapping[str, Tensor]) -> bool:
        """The projection of an earlier pretraining's checkpoint.pt."""
        from mfm.models.weights import load_part
        from mfm.objectives.simclr.model import SimclrModel

        assert isinstance(task.model, SimclrModel)
        return load_part(task.model.projection, tensors, prefix="projection.")

    def _distortions(self, size: int) -> tuple[float, float]:
        """Strength of the colour jitter and probability of the blur, of images of `size` pixels."""
        jitter, blur = (1.0, 0.5) if size >= _LARGE else (0.5, 0.0)
        return (
            jitter if self.jitter is None else self.jitter,
            blur if self.blur is None else self.blur,
        )
