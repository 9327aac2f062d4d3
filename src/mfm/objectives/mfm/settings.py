"""Settings of masked frequency modeling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mfm.errors import UserError
from mfm.models.settings import IN_CHANNELS, Model
from mfm.objectives.pretext import Pretext
from mfm.settings.section import PerChannel
from mfm.training.task import Inputs, Task

if TYPE_CHECKING:  # settings are read without importing torch
    from torch import Tensor

    from mfm.objectives.mfm.pictures import MfmPictures
    from mfm.objectives.mfm.task import MaskedFrequencyModeling


class MfmPretraining(Pretext):
    """Masked frequency modeling (paper sections 3.1 to 3.3)."""

    predicts_images: ClassVar[bool] = True
    losses: ClassVar[Mapping[str, str]] = {
        "low": "from low frequencies",
        "high": "from high frequencies",
    }
    sample_note: ClassVar[str] = (
        "Energy: of the recipe's target, the sum of squared magnitudes over frequencies, as a mean "
        "of the images' shares. Where nearly all of it lies inside the radius, the low-pass input "
        "leaves little to predict; where little does, the high-pass input."
    )

    task: Literal["mfm"] = Field(description="Pretraining task.")
    recipe: Literal["upstream", "paper"] = Field(
        "upstream", description="Which released code's normalisation, target and reduction."
    )
    radius: float | None = Field(
        None, gt=0, description="Mask radius in frequency bins; null is 16 * size / 224."
    )
    low_pass: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Share of images that keep low frequencies; null is 0.5 "
        "(0.3 for ResNets in the paper recipe).",
    )
    reconstructions: int = Field(
        8, ge=0, le=64, description="Validation images drawn as a grid after pretraining."
    )

    @property
    def title(self) -> str:
        """'masked frequency modeling, recipe upstream'."""
        return f"masked frequency modeling, recipe {self.recipe}"

    def describe(self, *, model: Model, size: int) -> str:
        """With radius and low-pass share."""
        radius = default_radius(size) if self.radius is None else self.radius
        return (
            f"masked frequency modeling, recipe '{self.recipe}', radius {radius:.3g}, low-pass "
            f"share {self._low_pass_share(model):g}"
        )

    def normalisation(self) -> tuple[PerChannel, PerChannel]:
        """The recipe's."""
        from mfm.objectives.mfm.task import normalisation

        return normalisation(self.recipe)

    def create_task(self, *, model: Model, size: int) -> MaskedFrequencyModeling:
        """The mathematics, with the defaults that depend on the network and the images' size."""
        from mfm.objectives.mfm.task import MaskedFrequencyModeling

        return MaskedFrequencyModeling(
            recipe=self.recipe,
            radius=default_radius(size) if self.radius is None else self.radius,
            low_pass_share=self._low_pass_share(model),
            channels=model.channels,
        )

    def build(self, inputs: Inputs) -> Task:
        """Backbone and one-layer head, and the loss on the removed frequencies.

        Raises UserError where the image size is not a multiple of the backbone's stride.
        """
        import torch

        from mfm.models.reconstruction import create_reconstruction_model
        from mfm.objectives.mfm.objective import MfmObjective

        torch.manual_seed(inputs.seed)
        task = self.create_task(model=inputs.model, size=inputs.size)
        model = create_reconstruction_model(
            inputs.model, size=inputs.size, out_channels=task.out_channels
        )
        objective = MfmObjective(task, rows=inputs.rows, seed=inputs.seed, size=inputs.size)
        return Task(model=model, backbone=model.backbone, objective=objective)

    def load_head(self, task: Task, tensors: Mapping[str, Tensor]) -> bool:
        """The layer that both public codes call decoder."""
        from mfm.models.reconstruction import ReconstructionModel

        assert isinstance(task.model, ReconstructionModel)
        return task.model.load_head(tensors, prefix="decoder.")

    def check_size(self, size: int) -> None:
        """The radius leaves frequencies outside."""
        farthest = math.sqrt(2) * (size // 2)
        if self.radius is not None and self.radius >= farthest:
            raise UserError(
                f"radius is {self.radius:g}, which covers every frequency of images of {size} px: "
                f"give less than {farthest:.3g}; null is {default_radius(size):.3g}"
            )

    @property
    def pictured(self) -> int:
        """`reconstructions`."""
        return self.reconstructions

    def pictures(self, *, model: Model, size: int) -> MfmPictures:
        """Predictions from low and from high frequencies, and their spectra."""
        from mfm.objectives.mfm.pictures import MfmPictures

        return MfmPictures(self.create_task(model=model, size=size))

    def sample_constants(self, size: int) -> dict[str, str]:
        """The radius, and what the default would be."""
        scaled = default_radius(size)
        radius = scaled if self.radius is None else self.radius
        return {"radius": f"{radius:.3g}", "16 at 224 px, scaled to this size": f"{scaled:.3g}"}

    def image_shares(self, images: Tensor) -> dict[str, Tensor]:
        """Share of the target's energy inside the radius, with and without the image's mean."""
        from mfm.objectives.mfm.energy import energy_shares

        size = images.shape[-1]
        radius = default_radius(size) if self.radius is None else self.radius
        model = Model(options={IN_CHANNELS: images.shape[1]})
        task = self.create_task(model=model, size=size)
        every, contrast = energy_shares(task.target(images), radius).unbind(dim=1)
        return {"energy inside the radius": every, "without the mean": contrast}

    def _low_pass_share(self, model: Model) -> float:
        if self.low_pass is not None:
            return self.low_pass
        return default_low_pass(recipe=self.recipe, backbone=model.backbone)


def default_radius(size: int) -> float:
    """16 frequency bins at 224 px (paper section 4.1), scaled with the image side."""
    return 16.0 * size / 224


def default_low_pass(*, recipe: str, backbone: str) -> float:
    """Share of low-pass images: 0.5, and 0.3 for ResNets in the paper's released configs."""
    return 0.3 if recipe == "paper" and "resnet" in backbone else 0.5
