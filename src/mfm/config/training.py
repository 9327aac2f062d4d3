"""The network, and the recipes of pretraining, finetuning and evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from mfm.config.dataset import Dataset
from mfm.config.section import PositiveTriple, Range, Section, Triple

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Model(Section):
    """The network."""

    backbone: str = Field("resnet18", description="A timm model name, e.g. resnet18 or resnet50.")
    drop_path: float = Field(
        0.0, ge=0.0, lt=1.0, description="Stochastic depth rate, where the backbone has it."
    )
    zero_init_last: bool = Field(
        False,
        description="ResNets: the last batch norm of each block starts at zero (timm, paper) and "
        "not at one (torchvision, upstream).",
    )
    pooling: Literal["mean"] | None = Field(
        None,
        description="What a ViT's classifier reads: 'mean' is the mean of the patches, then a "
        "layer norm of its own (paper); null is timm's default. MFM has no classifier.",
    )


class Crop(Section):
    """Random resized crop and flip of a training image."""

    size: int | None = Field(
        None, ge=8, le=1024, description="Side in pixels; null is dataset.image_size."
    )
    area: Range = Field((0.2, 1.0), description="Range of the crop's share of the image area.")
    aspect: Range = Field((0.75, 4 / 3), description="Range of width / height.")
    interpolation: Literal["bilinear", "bicubic"] = Field(
        "bilinear", description="Resampling (antialiased)."
    )
    flip: float = Field(0.5, ge=0.0, le=1.0, description="Probability of a horizontal flip.")

    @field_validator("area", "aspect")
    @classmethod
    def _ordered(cls, value: Range) -> Range:
        if not 0 < value[0] <= value[1]:
            raise ValueError("give [low, high] with 0 < low <= high")
        return value

    @field_validator("area")
    @classmethod
    def _share(cls, value: Range) -> Range:
        if value[1] > 1:
            raise ValueError("the crop's share of the image is at most 1")
        return value


class RandAugment(Section):
    """RandAugment on the cropped image: torchvision's, or timm's, which differs from it."""

    kind: Literal["torchvision", "timm"] = Field(
        "torchvision",
        description="'torchvision' (upstream), or 'timm' (paper): timm applies each operation with "
        "probability 0.5, has operations of its own, and no 'bins': magnitudes are 0 to 10.",
    )
    ops: int = Field(2, ge=1, le=10, description="Operations per image.")
    magnitude: int = Field(6, ge=0, description="Magnitude, in bins.")
    bins: int = Field(10, ge=2, description="Number of magnitude bins (torchvision).")
    magnitude_std: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Standard deviation of each operation's magnitude (timm: 'mstd'); 0 is off.",
    )
    increasing: bool = Field(
        False,
        description="Only operations that are stronger at a larger magnitude (timm: 'inc1').",
    )

    @model_validator(mode="after")
    def _in_bins(self) -> Self:
        if self.kind == "torchvision":
            if self.magnitude >= self.bins:
                raise ValueError("magnitude counts from 0 and has to be below bins")
            if self.magnitude_std or self.increasing:
                raise ValueError("magnitude_std and increasing are for kind: timm")
        elif self.magnitude > 10:
            raise ValueError("timm's magnitudes are 0 to 10")
        elif self.bins != 10:
            raise ValueError("bins is for kind: torchvision")
        return self


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
    """What pretraining and finetuning share."""

    epochs: int = Field(1, ge=1, description="Passes over the training images.")
    batch: int = Field(
        256, ge=1, description="Effective batch: images per optimizer step, over all processes."
    )
    micro_batch: int = Field(
        256, ge=1, description="Most images a process holds at once; more are accumulated."
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


def is_path(weights: str) -> bool:
    """Whether initial weights name a file, and not torchvision weights or 'scratch'."""
    name = weights.removeprefix("torchvision/")
    return "/" in name or Path(name).suffix in (".pth", ".pt", ".safetensors", ".bin", ".ckpt")


class Supervision(Training):
    """Training with labels: finetuning, and the supervised pretraining."""

    loss: Literal["bce", "ce"] = Field(
        "ce", description="'bce': binary cross-entropy per class (upstream), 'ce': softmax."
    )
    smoothing: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="Label smoothing: 1 - s on the class, s / (classes - 1) on each other.",
    )
    smoothing_over: Literal["others", "all"] = Field(
        "others",
        description="Classes that label smoothing spreads s over: all others (upstream), or all, "
        "the image's own included: s / classes more on each (paper, timm).",
    )
    bce_threshold: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="BCE: targets above it, after mixing, become 1 and all others 0 (RSB: 0.2); "
        "null keeps them as they are.",
    )
    mixup: float = Field(0.0, ge=0, description="Alpha of mixup; 0 is off.")
    cutmix: float = Field(0.0, ge=0, description="Alpha of cutmix; 0 is off. With both, half each.")
    randaugment: RandAugment | None = Field(None, description="RandAugment; null is off.")
    erasing: float = Field(
        0.0,
        ge=0,
        le=1,
        description="Probability that a rectangle of 2 to 33% of the normalised image becomes "
        "Gaussian noise, before mixing; 0 is off.",
    )
    mean: Triple = Field(IMAGENET_MEAN, description="Mean subtracted from images in [0, 1].")
    std: PositiveTriple = Field(
        IMAGENET_STD, description="Standard deviation images are divided by."
    )

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if (self.mixup or self.cutmix) and (self.batch // self.ranks) % 2:
            raise ValueError("mixup and cutmix pair images: batch / ranks has to be even")
        if (self.mixup or self.cutmix) and self.micro_batch % 2:
            raise ValueError("mixup and cutmix pair images: micro_batch has to be even")
        return self

    @model_validator(mode="after")
    def _threshold(self) -> Self:
        if self.bce_threshold is not None and self.loss != "bce":
            raise ValueError("bce_threshold is for loss: bce")
        return self


class MfmPretraining(Training):
    """Masked frequency modeling (paper sections 3.1 to 3.3)."""

    task: Literal["mfm"] = Field(description="Pretraining task.")
    seed: int = Field(0, ge=0, description="Seed of weights, sample order and augmentation.")
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

    @field_validator("weights")
    @classmethod
    def _file(cls, value: str | None) -> str | None:
        if value is not None and not is_path(value):
            raise ValueError("give a .pth or .safetensors file")
        return value

    weights: str | None = Field(
        None,
        description="A local .pth or .safetensors file of a backbone to go on from, with its head "
        "where the file has one that fits; null: new weights.",
    )
    reconstructions: int = Field(
        8, ge=0, le=64, description="Validation images drawn as a grid after pretraining."
    )


class SupervisedPretraining(Supervision):
    """Supervised training on all labelled training images, as an initialisation."""

    task: Literal["supervised"] = Field(description="Pretraining task.")
    seed: int = Field(0, ge=0, description="Seed of weights, sample order and augmentation.")


def _one_rate(training: MfmPretraining | SupervisedPretraining) -> Any:
    if training.optimizer.layer_decay != 1:
        raise ValueError(
            "optimizer.layer_decay is for finetuning: in a pretraining every layer starts new"
        )
    return training


Pretraining = Annotated[
    MfmPretraining | SupervisedPretraining,
    Field(discriminator="task"),
    AfterValidator(_one_rate),
]


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


class Evaluation(Section):
    """Evaluation of the last epoch's weights on whole images."""

    resize: int = Field(32, ge=8, description="Short side in pixels, before the centre crop.")
    crop: int = Field(32, ge=8, description="Side of the centre crop in pixels.")
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


def pretrain_split(training: Pretraining, dataset: Dataset) -> Literal["train", "pretrain"]:
    """The split that a pretraining uses: unlabelled images, where given and no label is needed."""
    labelled = isinstance(training, SupervisedPretraining) or dataset.unlabelled is None
    return "train" if labelled else "pretrain"


def default_radius(size: int) -> float:
    """16 frequency bins at 224 px (paper section 4.1), scaled with the image side."""
    return 16.0 * size / 224


def default_low_pass(*, recipe: str, backbone: str) -> float:
    """Share of low-pass images: 0.5, and 0.3 for ResNets in the paper's released configs."""
    return 0.3 if recipe == "paper" and "resnet" in backbone else 0.5
