"""Pretext: what the settings of every pretraining task have, and may have.

A task is a module of this package whose `Settings` extend `Pretext`, and a line in
`mfm.objectives`. Nothing else asks which task a pretraining is: it asks the settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field, field_validator, model_validator

from mfm.data.settings import IMAGENET_MEAN, IMAGENET_STD
from mfm.models.settings import Model
from mfm.models.sources import is_path
from mfm.settings.section import PerChannel, PlainPath, Seeds
from mfm.training.settings import Training

if TYPE_CHECKING:  # settings are read without importing torch
    from torch import Tensor

    from mfm.objectives.pictures import Pictures
    from mfm.training.task import Task


class Pretext(Training):
    """Settings of a pretraining task; its own keys and its `task:` name come with the subclass."""

    labelled: ClassVar[bool] = False  # whether it reads labels; then it takes the training images
    rgb_alone: ClassVar[bool] = False  # whether it means something for three channels alone
    predicts_images: ClassVar[bool] = False  # whole ones, so the network's stride divides the size
    losses: ClassVar[Mapping[str, str]] = {}  # on fixed images, with `pictures`: what each is of
    sample_note: ClassVar[str] = ""  # below the table of `image_shares` in the dataset's report

    seeds: Seeds = Field(
        [0],
        description="Seeds of weights, sample order and augmentation, a pretraining each: the "
        "finetuning of seed s starts from number s mod K of these K.",
    )
    weights: PlainPath | None = Field(
        None,
        description="A local .pth or .safetensors file of a backbone to go on from, with the "
        "task's own layers where the file has some that fit; null: new weights.",
    )

    @field_validator("weights")
    @classmethod
    def _file(cls, value: str | None) -> str | None:
        if value is not None and not is_path(value):
            raise ValueError("give a .pth or .safetensors file")
        return value

    @model_validator(mode="after")
    def _one_rate(self) -> Pretext:
        if self.optimizer.layer_decay != 1:
            raise ValueError(
                "optimizer.layer_decay is for finetuning: in a pretraining every layer starts new"
            )
        return self

    def normalisation(self) -> tuple[PerChannel, PerChannel]:
        """ImageNet's, where the task has no other."""
        return IMAGENET_MEAN, IMAGENET_STD

    def load_head(self, task: Task, tensors: Mapping[str, Tensor]) -> bool:
        """Load what stands above the backbone in a file to go on from; whether it was there."""
        return False

    def check_size(self, size: int) -> None:
        """Raise UserError, with the task's own key, where images of `size` pixels don't fit it."""

    def check_model(self, *, model: Model, size: int) -> None:
        """Raise UserError, with the task's own key, where it doesn't fit the network.

        What is asked of the network is in `mfm.models.facts`, which remembers it between calls.
        """

    @property
    def pictured(self) -> int:
        """Number of fixed validation images whose pictures are drawn; 0: none."""
        return 0

    def pictures(self, *, model: Model, size: int) -> Pictures:
        """What is shown of these images, where `pictured` says so."""
        raise NotImplementedError(f"{type(self).__name__} is pictured, and has no pictures")

    @property
    def constant_loss(self) -> float | None:
        """The training's loss where a network tells no image from another.

        None where that isn't known from the settings. Of tasks with pictures it is measured.
        """
        return None

    def sample_constants(self, size: int) -> dict[str, str]:
        """Numbers of the task for images of `size` pixels that `image_shares` depends on."""
        return {}

    def image_shares(self, images: Tensor) -> dict[str, Tensor]:
        """What the task says of each image, for the dataset's report: shares in [0, 1], or NaN.

        Images are float64 [n, 3, H, W] in [0, 1], each share [n]; none by default.
        """
        return {}
