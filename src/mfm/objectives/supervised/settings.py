"""Settings of training with labels: finetuning, and the supervised pretraining."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from mfm.models.settings import Model
from mfm.objectives.pretext import Pretext
from mfm.objectives.supervised.recipe import Supervision
from mfm.training.task import Inputs, Task

if TYPE_CHECKING:  # settings are read without importing torch
    from torch import nn


class SupervisedPretraining(Supervision, Pretext):
    """Supervised training on all labelled training images, for arms to start from."""

    task: Literal["supervised"] = Field(description="Pretraining task.")
    labelled: ClassVar[bool] = True

    @property
    def title(self) -> str:
        """'on labels, ce loss'."""
        return f"on labels, {self.loss} loss"

    def describe(self, *, model: Model, size: int) -> str:
        """'supervised pretraining with ce'."""
        return f"supervised pretraining with {self.loss}"

    def build(self, inputs: Inputs) -> Task:
        """The classifier of all labelled images."""
        import torch

        from mfm.models.backbones import create_backbone

        torch.manual_seed(inputs.seed)
        model = create_backbone(inputs.model, classes=inputs.classes, image_size=inputs.size)
        return _task(self, model, inputs)


class Finetuning(Supervision):
    """Finetuning; the same for every arm."""

    drop_path: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Stochastic depth rate of the finetuning; null is model.drop_path.",
    )
    images_per_class: int | None = Field(
        None,
        ge=1,
        description="Labelled images per class, drawn by seed and the same for every arm; null "
        "is all of them.",
    )
    fraction: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Instead of images_per_class: share of each class's labelled images, drawn by "
        "seed, rounded, at least one; null is all of them.",
    )
    curve_images: int = Field(
        0,
        ge=0,
        description="Evaluation images, evenly spread and the same for every run, whose top-1 is "
        "measured at up to ten epochs for the report's curve. They change no result and choose "
        "nothing; their time is in the finetuning's.",
    )

    @field_validator("fraction")
    @classmethod
    def _whole(cls, value: float | None) -> float | None:
        return None if value == 1 else value

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        if self.images_per_class is not None and self.fraction is not None:
            raise ValueError("give images_per_class or fraction, not both")
        return self

    @property
    def title(self) -> str:
        """'finetuning with ce'."""
        return f"finetuning with {self.loss}"

    def build(self, inputs: Inputs) -> Task:
        """The classifier; the seed decides the new layers, so arms with one seed share them."""
        import torch

        from mfm.models.backbones import create_backbone

        torch.manual_seed(inputs.seed)
        model = inputs.model
        if self.drop_path is not None:
            model = model.model_copy(update={"drop_path": self.drop_path})
        classifier = create_backbone(model, classes=inputs.classes, image_size=inputs.size)
        return _task(self, classifier, inputs)


def _task(training: Supervision, model: nn.Module, inputs: Inputs) -> Task:
    from mfm.objectives.supervised.loss import SupervisedObjective

    return Task(
        model=model,
        backbone=model,
        objective=SupervisedObjective(
            training, classes=inputs.classes, seed=inputs.seed, rows=inputs.rows
        ),
        mixes=bool(training.mixup or training.cutmix),
        randaugment=training.randaugment,
    )
