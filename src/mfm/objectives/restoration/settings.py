"""Settings of the tasks that restore images: the paper's rivals of MFM, and a control."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from mfm.errors import UserError
from mfm.models.settings import Model
from mfm.objectives.pretext import Pretext
from mfm.training.task import Inputs, Task

if TYPE_CHECKING:  # settings are read without importing torch
    from torch import Tensor

    from mfm.objectives.restoration.degradations import Degradation
    from mfm.objectives.restoration.pictures import RestorationPictures

_KERNELS = (7, 9, 11, 13, 15, 17, 19, 21)  # at 224 px


class RestorationPretraining(Pretext):
    """A degraded image goes in, the image is to come out: MFM's head, distance and target."""

    predicts_images: ClassVar[bool] = True
    losses: ClassVar[Mapping[str, str]] = {"whole": "on all frequencies"}

    reconstructions: int = Field(
        8, ge=0, le=64, description="Validation images drawn as a grid after pretraining."
    )

    @abstractmethod
    def degradation(self, size: int) -> Degradation:
        """What is done to images of `size` pixels."""

    def describe(self, *, model: Model, size: int) -> str:
        """As the title."""
        return self.title

    def build(self, inputs: Inputs) -> Task:
        """Backbone and one-layer head, and the loss on all frequencies.

        Raises UserError where the image size is not a multiple of the backbone's stride.
        """
        import torch

        from mfm.models.reconstruction import create_reconstruction_model
        from mfm.objectives.restoration.objective import Restoration, RestorationObjective

        torch.manual_seed(inputs.seed)
        model = create_reconstruction_model(
            inputs.model, size=inputs.size, out_channels=inputs.model.channels
        )
        objective = RestorationObjective(
            Restoration(self.degradation(inputs.size)), rows=inputs.rows, seed=inputs.seed
        )
        return Task(model=model, backbone=model.backbone, objective=objective)

    def load_head(self, task: Task, tensors: Mapping[str, Tensor]) -> bool:
        """The layer that the official code calls decoder, in these tasks as in MFM."""
        from mfm.models.reconstruction import ReconstructionModel

        assert isinstance(task.model, ReconstructionModel)
        return task.model.load_head(tensors, prefix="decoder.")

    @property
    def pictured(self) -> int:
        """`reconstructions`."""
        return self.reconstructions

    def pictures(self, *, model: Model, size: int) -> RestorationPictures:
        """Inputs and predictions."""
        from mfm.objectives.restoration.objective import Restoration
        from mfm.objectives.restoration.pictures import RestorationPictures

        return RestorationPictures(Restoration(self.degradation(size)), title=self.title)


class SuperResolution(RestorationPretraining):
    """Super-resolution: images downsampled and up again, bicubic, are to become sharp."""

    task: Literal["sr"] = Field(description="Pretraining task.")
    factor: int = Field(
        8, ge=2, description="Factor of the downsampling; it has to divide the image size."
    )

    @property
    def title(self) -> str:
        """'super-resolution by 8'."""
        return f"super-resolution by {self.factor}"

    def degradation(self, size: int) -> Degradation:
        """Down and up."""
        from mfm.objectives.restoration.degradations import coarsen

        return partial(coarsen, factor=self.factor)

    def check_size(self, size: int) -> None:
        """The factor divides the side."""
        if size % self.factor:
            fitting = [str(each) for each in range(2, size) if size % each == 0]
            raise UserError(
                f"factor is {self.factor}, which doesn't divide the {size} px of its images: give "
                f"one of {', '.join(fitting)}"
                if fitting
                else f"factor is {self.factor}, and nothing divides the {size} px of its images"
            )


class Deblurring(RestorationPretraining):
    """Deblurring: images blurred by a Gaussian, cut off at a random side, are to become sharp."""

    task: Literal["deblur"] = Field(description="Pretraining task.")
    sigma: float | None = Field(
        None, gt=0, description="Deviation of the Gaussian in pixels; null is 5 * size / 224."
    )
    kernels: list[int] | None = Field(
        None,
        min_length=1,
        description="Sides of its kernel in pixels, odd, one drawn evenly for each image; null is "
        "7, 9, ..., 21 at 224 px, what is on each side of the middle scaled by size / 224, rounded "
        "and at least 1: 3 to 7 px at 64 px, always 3 at 28 and 32 px.",
    )

    @field_validator("kernels")
    @classmethod
    def _odd(cls, value: list[int] | None) -> list[int] | None:
        if any(side < 1 or side % 2 == 0 for side in value or []):
            raise ValueError("give odd numbers of pixels")
        return value

    @property
    def title(self) -> str:
        """'deblurring'."""
        return "deblurring"

    def describe(self, *, model: Model, size: int) -> str:
        """With sigma and the smallest and largest kernel."""
        sides = self.sides(size)
        return (
            f"deblurring, sigma {self._sigma(size):.3g}, kernels of {min(sides)} to {max(sides)} px"
        )

    def degradation(self, size: int) -> Degradation:
        """The blur of this size."""
        from mfm.objectives.restoration.degradations import blur

        return partial(blur, sigma=self._sigma(size), sides=self.sides(size))

    def check_size(self, size: int) -> None:
        """Kernels reach no farther than the image's mirror image."""
        if max(self.sides(size)) // 2 >= size:
            raise UserError(
                f"kernels has {max(self.sides(size))}, which is too wide for images of {size} px: "
                f"give at most {2 * size - 1}"
            )

    def sides(self, size: int) -> list[int]:
        """Sides of the kernels for images of `size` pixels, as often as they are to be drawn."""
        if self.kernels is not None:
            return self.kernels
        return [2 * max(1, math.floor(side // 2 * size / 224 + 0.5)) + 1 for side in _KERNELS]

    def _sigma(self, size: int) -> float:
        return 5.0 * size / 224 if self.sigma is None else self.sigma


class Denoising(RestorationPretraining):
    """Denoising: images with Gaussian noise in each pixel and channel are to lose it."""

    task: Literal["denoise"] = Field(description="Pretraining task.")
    sigma: float = Field(75.0, gt=0, description="Deviation of the noise, where white is 255.")

    @property
    def title(self) -> str:
        """'denoising, sigma 75'."""
        return f"denoising, sigma {self.sigma:g} of 255"

    def degradation(self, size: int) -> Degradation:
        """Noise."""
        from mfm.objectives.restoration.degradations import add_noise

        return partial(add_noise, sigma=self.sigma / 255)


class Autoencoding(RestorationPretraining):
    """Autoencoding: the image itself, to say whether it matters that anything is hidden."""

    task: Literal["autoencode"] = Field(description="Pretraining task.")

    @property
    def title(self) -> str:
        """'autoencoding'."""
        return "autoencoding"

    def degradation(self, size: int) -> Degradation:
        """None."""
        from mfm.objectives.restoration.degradations import nothing

        return nothing
