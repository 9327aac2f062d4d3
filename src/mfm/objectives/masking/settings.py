"""Settings of the tasks that mask patches of an image."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from mfm.errors import UserError
from mfm.models.facts import facts_of
from mfm.models.settings import Model
from mfm.objectives.pretext import Pretext
from mfm.training.task import Inputs, Task

if TYPE_CHECKING:  # settings are read without importing torch
    from torch import Tensor

    from mfm.objectives.masking.mae import MaeModel
    from mfm.objectives.masking.objective import Masking
    from mfm.objectives.masking.pictures import MaskingPictures
    from mfm.objectives.masking.simmim import SimmimModel

_OWN_LEVEL = (
    " Each has the mean and the deviation that it has in the image: the model is asked for neither."
)


class MaskingPretraining(Pretext):
    """Patches of an image are masked, and their pixels predicted from the others."""

    predicts_images: ClassVar[bool] = True

    reconstructions: int = Field(
        8, ge=0, le=64, description="Validation images drawn as a grid after pretraining."
    )

    @abstractmethod
    def masking(self, *, model: Model, size: int) -> Masking:
        """What is masked of images of `size` pixels.

        Raises UserError where the network or the size doesn't fit.
        """

    @abstractmethod
    def network(self, inputs: Inputs) -> SimmimModel | MaeModel:
        """What is trained, with its first weights."""

    def build(self, inputs: Inputs) -> Task:
        """The network, and the loss on masked pixels.

        Raises UserError as `check_model` does, and where the image size is not a multiple of the
        backbone's stride.
        """
        import torch

        from mfm.objectives.masking.objective import MaskingObjective

        masking = self.masking(model=inputs.model, size=inputs.size)
        torch.manual_seed(inputs.seed)
        model = self.network(inputs)
        objective = MaskingObjective(masking, rows=inputs.rows, seed=inputs.seed)
        return Task(model=model, backbone=model.backbone, objective=objective)

    def load_head(self, task: Task, tensors: Mapping[str, Tensor]) -> bool:
        """What is above the backbone, by the names of the papers' codes or by those here."""
        loaded: bool = task.model.load_head(tensors)  # type: ignore[operator]
        return loaded

    def check_model(self, *, model: Model, size: int) -> None:
        """There are patches to mask that the network sees as wholes, and some to leave."""
        self.masking(model=model, size=size)

    @property
    def pictured(self) -> int:
        """`reconstructions`."""
        return self.reconstructions

    def pictures(self, *, model: Model, size: int) -> MaskingPictures:
        """Masked images and predictions."""
        from mfm.objectives.masking.pictures import MaskingPictures

        return MaskingPictures(self.masking(model=model, size=size), title=self.title)


class SimmimPretraining(MaskingPretraining):
    """SimMIM: most of an image's patches are masked, and their pixels predicted."""

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

    def network(self, inputs: Inputs) -> SimmimModel:
        """Backbone, one-layer head and token."""
        from mfm.models.reconstruction import create_encoder
        from mfm.objectives.masking.simmim import SimmimModel

        encoder = create_encoder(inputs.model, size=inputs.size)
        return SimmimModel(encoder, channels=inputs.model.channels)

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
            smaller = [f"patch to {each}, " for each in fitting(unit)[-1:]]
            raise UserError(
                f"masked is {self.masked:g}, which leaves nothing of images of {size} px in "
                f"patches of {facts.stride} px or more, {model.backbone}'s stride: set "
                f"{''.join(smaller)}larger images, model.stem_stride (ResNets) or model.options "
                "(timm's patch size or output stride), or mask less"
            )
        return min(fitting(facts.stride), key=lambda side: abs(side - 32 * size / 224))

    def _count(self, size: int, patch: int) -> int:
        """Masked patches of an image, as in SimMIM's data/data_simmim.py."""
        return math.ceil((size // patch) ** 2 * self.masked)


class MaePretraining(MaskingPretraining):
    """MAE: a ViT sees a quarter of an image's patches, and a decoder predicts the others."""

    losses: ClassVar[Mapping[str, str]] = {"masked": "on masked patches"}

    task: Literal["mae"] = Field(description="Pretraining task, for ViTs.")
    masked: float = Field(
        0.75, gt=0, lt=1, description="Share of the patches that the encoder doesn't see (MAE)."
    )
    norm_pixels: bool = Field(
        True,
        description="Whether each patch of the target is normalised by its own mean and deviation "
        "(MAE's norm_pix_loss).",
    )
    decoder_depth: int | None = Field(
        None,
        ge=1,
        description="Blocks of the decoder; null is two thirds of the encoder's, at most 8: MAE's "
        "8 for ViT-B, ViT-L and ViT-H.",
    )
    decoder_width: int | None = Field(
        None,
        ge=32,
        multiple_of=32,
        description="Width of the decoder, whose heads have 32 each; null is two thirds of the "
        "encoder's, at most 512: MAE's 512 and 16 heads for ViT-B, ViT-L and ViT-H.",
    )

    @property
    def title(self) -> str:
        """'MAE'."""
        return "MAE"

    def describe(self, *, model: Model, size: int) -> str:
        """With what is masked."""
        masking = self.masking(model=model, size=size)
        return (
            f"MAE, {masking.count} of {masking.side**2} patches masked, target of "
            f"{'patches normalised by themselves' if self.norm_pixels else 'normalised pixels'}"
        )

    def network(self, inputs: Inputs) -> MaeModel:
        """A ViT and its decoder."""
        from mfm.models.reconstruction import create_encoder
        from mfm.objectives.masking.mae import create_model

        masking = self.masking(model=inputs.model, size=inputs.size)
        return create_model(
            create_encoder(inputs.model, size=inputs.size),
            masking,
            depth=self.decoder_depth,
            width=self.decoder_width,
        )

    def masking(self, *, model: Model, size: int) -> Masking:
        """What is masked of images of `size` pixels: what models_mae.py's random_masking leaves."""
        from mfm.objectives.masking.mae import answers, as_images, image_losses
        from mfm.objectives.masking.objective import Masking

        facts = facts_of(model)
        if not facts.leaves_patches_out:
            raise UserError(
                "task is mae, which is for timm's plain ViTs, whose patches can be left out, and "
                f"not for {model.backbone}: choose a backbone such as vit_small_patch16_224, or "
                "the task simmim"
            )
        side = size // facts.stride
        kept = int(side**2 * (1 - self.masked))
        if not 0 < kept < side**2:
            raise UserError(
                f"masked is {self.masked:g}, which leaves {kept} of the {side**2} patches of "
                f"{facts.stride} px of its images of {size} px: give another share, larger images, "
                "or a smaller patch size by model.options"
            )
        return Masking(
            side=side,
            count=side**2 - kept,
            image_losses=partial(image_losses, norm_pixels=self.norm_pixels),
            as_images=partial(as_images, side=side, norm_pixels=self.norm_pixels),
            answers=partial(answers, side=side, norm_pixels=self.norm_pixels),
            note=_OWN_LEVEL if self.norm_pixels else "",
        )
