"""Settings of the tasks that mask patches of an image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mfm.errors import UserError
from mfm.models.facts import facts_of
from mfm.models.settings import Model
from mfm.objectives.pretext import Pretext
from mfm.training.task import Inputs, Task

if TYPE_CHECKING:  # settings are read without importing torch
    from torch import Tensor

    from mfm.objectives.masking.objective import Masking
    from mfm.objectives.masking.pictures import MaskingPictures


class SimmimPretraining(Pretext):
    """SimMIM: most of an image's patches are masked, and their pixels predicted."""

    predicts_images: ClassVar[bool] = True
    losses: ClassVar[Mapping[str, str]] = {"masked": "on masked pixels"}

    task: Literal["simmim"] = Field(description="Pretraining task.")
    patch: int | None = Field(
        None,
        ge=1,
        description="Side in pixels of a patch that is masked or not as a whole. It divides the "
        "image size, and is a multiple of the network's stride (of a ViT's or Swin's patch size). "
        "null is 32 at 224 px (SimMIM), scaled by size / 224 to the nearest such multiple of the "
        "stride.",
    )
    masked: float = Field(
        0.6, gt=0, lt=1, description="Share of the patches that are masked, rounded up (SimMIM)."
    )
    reconstructions: int = Field(
        8, ge=0, le=64, description="Validation images drawn as a grid after pretraining."
    )

    @property
    def title(self) -> str:
        """'SimMIM'."""
        return "SimMIM"

    def describe(self, *, model: Model, size: int) -> str:
        """With what is masked, and how."""
        facts, patch = facts_of(model), self.patch_of(model=model, size=size)
        return (
            f"SimMIM, {self._count(size, patch)} of {(size // patch) ** 2} patches of {patch} px "
            f"masked by {'the mean colour' if facts.patch is None else 'a learned token'}"
        )

    def build(self, inputs: Inputs) -> Task:
        """Backbone, one-layer head and token, and the loss on masked pixels.

        Raises UserError as `check_model` does, and where the image size is not a multiple of the
        backbone's stride.
        """
        import torch

        from mfm.models.reconstruction import create_encoder
        from mfm.objectives.masking.objective import MaskingObjective
        from mfm.objectives.masking.simmim import SimmimModel

        masking = self.masking(model=inputs.model, size=inputs.size)
        torch.manual_seed(inputs.seed)
        model = SimmimModel(create_encoder(inputs.model, size=inputs.size))
        objective = MaskingObjective(masking, rows=inputs.rows, seed=inputs.seed)
        return Task(model=model, backbone=model.backbone, objective=objective)

    def load_head(self, task: Task, tensors: Mapping[str, Tensor]) -> bool:
        """The layer that SimMIM's code calls decoder, and the token."""
        from mfm.objectives.masking.simmim import SimmimModel

        assert isinstance(task.model, SimmimModel)
        return task.model.load_masking(tensors)

    def check_model(self, *, model: Model, size: int) -> None:
        """There are patches that the network sees as wholes."""
        self.patch_of(model=model, size=size)

    @property
    def pictured(self) -> int:
        """`reconstructions`."""
        return self.reconstructions

    def pictures(self, *, model: Model, size: int) -> MaskingPictures:
        """Masked images and predictions."""
        from mfm.objectives.masking.pictures import MaskingPictures

        masking = self.masking(model=model, size=size)
        return MaskingPictures(
            masking, title=self.title, as_images=lambda predictions, images: predictions
        )

    def masking(self, *, model: Model, size: int) -> Masking:
        """What is masked of images of `size` pixels."""
        from mfm.objectives.masking.objective import Masking
        from mfm.objectives.masking.simmim import image_losses

        patch = self.patch_of(model=model, size=size)
        return Masking(
            side=size // patch, count=self._count(size, patch), image_losses=image_losses
        )

    def patch_of(self, *, model: Model, size: int) -> int:
        """Side of a patch in pixels.

        Raises UserError where there is none, or the one that is given isn't one.
        """
        facts = facts_of(model)
        unit = facts.patch or facts.stride

        def fitting(unit: int) -> list[int]:
            sides = (each for each in range(unit, size, unit) if size % each == 0)
            return [each for each in sides if self._count(size, each) < (size // each) ** 2]

        if self.patch in fitting(unit):
            return self.patch
        if self.patch is not None and fitting(unit):
            kind = "stride" if facts.patch is None else "patch size"
            raise UserError(
                f"patch is {self.patch}, but it has to divide the {size} px of its images, be a "
                f"multiple of {model.backbone}'s {kind} {unit} and leave some unmasked: give one "
                f"of {', '.join(map(str, fitting(unit)))}"
            )
        if not fitting(facts.stride):
            raise UserError(
                f"masked is {self.masked:g}, which leaves nothing of images of {size} px in "
                f"patches of {facts.stride} px or more, {model.backbone}'s stride: set larger "
                "images, model.stem_stride (ResNets) or model.options (timm's patch size or "
                "output stride), or mask less"
            )
        return min(fitting(facts.stride), key=lambda side: abs(side - 32 * size / 224))

    def _count(self, size: int, patch: int) -> int:
        """Masked patches of an image, as in SimMIM's data/data_simmim.py."""
        return math.ceil((size // patch) ** 2 * self.masked)
