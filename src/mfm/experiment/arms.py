"""Arms of the comparison: where the weights come from that a finetuning starts with."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, model_validator

from mfm.settings.section import Name, PlainPath, Section, Seeds

CHOICES = (
    "give 'scratch', or exactly one of 'pretrain: NAME', 'weights: FILE', or 'as_long_as: ARM' "
    "(from scratch)"
)


class _Seeds(Section):
    seeds: Seeds | None = Field(
        None,
        description="Seeds of this arm, out of the experiment's; null is all of them. For a "
        "reference that needs fewer runs than the question does.",
    )


class FromWeights(_Seeds):
    """An arm that starts from weights: give exactly one of `pretrain` and `weights`."""

    pretrain: Name | None = Field(None, description="Name of a pretraining of this workflow.")
    weights: PlainPath | None = Field(
        None,
        description="A weight name of torchvision (ResNet50_Weights.IMAGENET1K_V1) or timm "
        "(timm/resnet50.a1_in1k), or a local .pth or .safetensors file.",
    )
    classifier: Literal["new", "keep"] = Field(
        "new",
        description="'keep': the classifier of these weights too, where it has as many classes as "
        "the dataset (in the same order: that is not checked); else, and with 'new', a new one.",
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.pretrain is None) == (self.weights is None):
            raise ValueError(CHOICES)
        return self


class LongerScratch(_Seeds):
    """An arm from scratch that is trained for as long as another one with its pretraining."""

    as_long_as: Name = Field(
        description="An arm with a pretraining of this workflow. This one is trained from scratch, "
        "for as many epochs more as show the pretraining's images, counted by their pixels (one of "
        "224 px counts as 2 of 160 px)."
    )


def _kind(value: object) -> str | None:
    if isinstance(value, LongerScratch) or (isinstance(value, dict) and "as_long_as" in value):
        return "longer"
    if isinstance(value, dict | FromWeights):
        return "weights"
    return "scratch" if value == "scratch" else None


Arm = Annotated[
    Annotated[Literal["scratch"], Tag("scratch")]
    | Annotated[FromWeights, Tag("weights")]
    | Annotated[LongerScratch, Tag("longer")],
    Discriminator(_kind, custom_error_type="arm", custom_error_message=CHOICES),
]
