"""Recipe that every training has: length, batch, optimizer, schedule, crops."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from mfm.data.settings import Crop
from mfm.models.settings import Model
from mfm.settings.section import PerChannel, Range, Section
from mfm.training.task import Inputs, Task

_LATER = [("deterministic", True)]  # keys that earlier versions didn't have, as what they did


class Optimizer(Section):
    """Optimizer; the absolute learning rate is lr * batch / lr_batch."""

    name: Literal["adamw", "sgd", "lamb"] = Field("adamw", description="Optimizer.")
    lr: float = Field(1e-3, gt=0, description="Learning rate at an effective batch of lr_batch.")
    lr_batch: int = Field(256, ge=1, description="Batch that lr is written for.")
    betas: Range = Field(
        (0.9, 0.999), description="Momentum terms (sgd uses the first as momentum)."
    )
    weight_decay: float = Field(0.05, ge=0, description="Decoupled weight decay.")
    decay: Literal["all", "matrices"] = Field(
        "all",
        description="'all': every parameter decays (upstream). 'matrices': not biases, norms and "
        "other 1-d parameters, nor a ViT's position embedding and class token (paper).",
    )
    layer_decay: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Finetuning: the classifier has the whole learning rate, each layer below it "
        "this share of the layer above; 1 is off.",
    )

    @field_validator("betas")
    @classmethod
    def _betas(cls, value: Range) -> Range:
        if not all(0 <= beta < 1 for beta in value):
            raise ValueError("each of betas is in [0, 1)")
        return value


class Schedule(Section):
    """Linear warmup, then cosine."""

    warmup_epochs: float = Field(0, ge=0, description="Length of the warmup in epochs.")
    warmup_start: float = Field(
        0.01, ge=0, le=1, description="First learning rate, as a share of the peak."
    )
    end: float = Field(0.0, ge=0, le=1, description="Last learning rate, as a share of the peak.")
    per: Literal["epoch", "step"] = Field(
        "epoch", description="The rate changes once an epoch (upstream) or every step (paper)."
    )
    cosine_from: Literal["warmup_end", "start"] = Field(
        "warmup_end",
        description="Where the cosine counts from: the warmup's end (upstream), or the run's "
        "start: the warmup then replaces its first part, with a step down at its end (paper).",
    )


class Training(Section):
    """Recipe of one training. Its subclasses say what is trained, and build it."""

    views: ClassVar[int] = 1  # crops of each image that a step sees, one after the other in a batch

    epochs: int = Field(1, ge=1, description="Passes over the training images.")
    batch: int = Field(
        256, ge=1, description="Effective batch: images per optimizer step, over all processes."
    )
    micro_batch: int = Field(
        256,
        ge=1,
        description="Most images a process holds at once; more are accumulated. Where a GPU has no "
        "room for so many, the run says which number fits.",
    )
    ranks: int = Field(
        1,
        ge=1,
        description="Processes of a run (GPUs, or CPU processes). Part of the recipe, because "
        "batch norm sees one process's share of the batch.",
    )
    sync_batchnorm: bool = Field(
        False, description="Batch norm over all ranks instead of each rank's own images."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="'auto': bf16 where the processor or GPU has it, else fp32."
    )
    deterministic: bool = Field(
        True,
        description="GPUs: only algorithms that give the same bits twice, so that a resumed run "
        "ends with those of one that was never interrupted; an operation that has none ends the "
        "run. false: the fastest that cuDNN finds. A CPU always gives the same bits.",
    )
    clip: float | None = Field(None, gt=0, description="Largest gradient norm; null: no clipping.")
    crop: Crop = Field(Crop(), description="Random resized crop and flip.")
    optimizer: Optimizer = Field(Optimizer(), description="Optimizer.")
    schedule: Schedule = Field(Schedule(), description="Learning rate schedule.")

    @model_validator(mode="after")
    def _warmup_ends(self) -> Self:
        if self.schedule.warmup_epochs > self.epochs:
            raise ValueError(
                f"schedule.warmup_epochs {self.schedule.warmup_epochs:g} is longer than the "
                f"{self.epochs} epochs"
            )
        return self

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        if self.batch % self.ranks:
            raise ValueError(f"batch {self.batch} does not divide by ranks {self.ranks}")
        return self

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As ever, less a key that came later, where it says what held before it: finished runs are
        known by this text, and stay so."""
        values: dict[str, Any] = write(self)
        return {key: values[key] for key in values if (key, values[key]) not in _LATER}

    @property
    @abstractmethod
    def title(self) -> str:
        """What is trained by what, in a few words."""

    def describe(self, *, model: Model, size: int) -> str:
        """The same with its numbers, for the network and the images of `size` pixels."""
        return self.title

    @abstractmethod
    def normalisation(self) -> tuple[PerChannel, PerChannel]:
        """Mean and standard deviation that images in [0, 1] are normalised with, by channel."""

    @abstractmethod
    def build(self, inputs: Inputs) -> Task:
        """The network with its first weights, which the seed decides, and its loss.

        Raises UserError where they don't fit together.
        """
