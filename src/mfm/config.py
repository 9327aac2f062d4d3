"""Typed configuration of an experiment and of each stage's own resolved part.

`config.yaml` is checked against `Experiment`. Each job gets its own resolved sub-config
(`PretrainRun`, `FinetuneRun`, `EvaluateRun`) as a small JSON file: what is not in that file
cannot change the job's result, and a change elsewhere does not rerun the job.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from mfm.config_errors import UniqueKeyLoader, explain, nearest
from mfm.errors import UserError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def _safe_name(name: str) -> str:
    """Names become folder names, so they are kept to what no shell or file system minds."""
    if not name or name[0] in ".-" or not all(c.isalnum() or c in "._-" for c in name):
        raise ValueError(f"name {name!r}: use letters, digits, '-', '_' and '.' only")
    return name


Name = Annotated[str, AfterValidator(_safe_name)]
Positive = Annotated[float, Field(gt=0)]
Triple = tuple[float, float, float]
PositiveTriple = tuple[Positive, Positive, Positive]
Range = tuple[float, float]


LoaderName = Literal["torchvision", "dali"]
Loader = Annotated[
    LoaderName,
    Field(
        description="What decodes and resizes images: 'torchvision' (Pillow's pixels) or 'dali' "
        "(NVIDIA DALI: faster on JPEGs, on a GPU too). Order, crops and flips are the same."
    ),
]


class Section(BaseModel):
    """A section of the configuration: unknown keys are errors, values never change later."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )


class Dataset(Section):
    """Where the images come from."""

    name: Name = Field(
        "fashion-mnist", description="Name of the dataset; its files go below data/<name>/."
    )
    source: str = Field(
        "fashion-mnist",
        description="'fashion-mnist', 'generated' (tiny drawn images, for tests), "
        "'torchvision/<name>' for a classification dataset of torchvision (torchvision/CIFAR10), "
        "or the path of a folder that holds train/<class>/ and val/<class>/.",
    )
    unlabelled: str | None = Field(
        None,
        description="Folder of unlabelled images, at any depth, for MFM pretraining; null: it uses "
        "the training images, without their labels.",
    )
    archives: str | None = Field(
        None,
        description="Where the dataset's files are, if you have them already: the four .gz files "
        "of fashion-mnist, or a root of torchvision's datasets.",
    )
    image_size: int = Field(
        32, ge=8, le=1024, description="Side of a training image in pixels (pretraining default)."
    )
    holdout_per_class: int = Field(
        0,
        ge=0,
        description="Training images per class set aside as split 'holdout', in no training run; "
        "settings are chosen on them, never on val.",
    )
    on_bad_image: Literal["error", "skip"] = Field(
        "error",
        description="What an unreadable image does: 'error' stops before any training, 'skip' "
        "leaves it out. Both list it in data/<name>/left_out.csv.",
    )


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


class Amount(Section):
    """One amount of labelled images: give exactly one of images_per_class and fraction."""

    images_per_class: int | None = Field(None, ge=1, description="Labelled images per class.")
    fraction: float | None = Field(
        None, gt=0, le=1, description="Share of each class's labelled images."
    )
    epochs: int | None = Field(None, ge=1, description="Epochs with them; null is finetune.epochs.")
    batch: int | None = Field(None, ge=1, description="Batch with them; null is finetune.batch.")

    @model_validator(mode="after")
    def _one_amount(self) -> Self:
        if (self.images_per_class is None) == (self.fraction is None):
            raise ValueError("give exactly one of images_per_class and fraction")
        return self

    @property
    def name(self) -> str:
        """The name of its folder."""
        if self.fraction is not None:
            return f"{100 * self.fraction:.6g}-percent"
        return f"{self.images_per_class}-per-class"

    def applied(self, finetune: Finetuning) -> Finetuning:
        """The finetuning recipe with this amount of labelled images.

        Raises pydantic's ValidationError where they don't fit together.
        """
        changes = {"images_per_class": self.images_per_class, "fraction": self.fraction}
        for key in ("epochs", "batch"):
            if getattr(self, key) is not None:
                changes[key] = getattr(self, key)
        return Finetuning.model_validate(finetune.model_dump() | changes)


class Ablations(Section):
    """Upstream's four ablations; an empty list leaves one out.

    Each also has the experiment's own value, whose runs are the table's.
    """

    val_resize: list[Annotated[int, Field(ge=8)]] = Field(
        [],
        description="ablation_val_resize.md: short sides in pixels that every arm is evaluated at, "
        "without training anything again.",
    )
    loss: list[Literal["bce", "ce"]] = Field(
        [], description="ablation_loss.md: losses that every arm is finetuned with."
    )
    crop_area: list[Annotated[float, Field(gt=0, le=1)]] = Field(
        [],
        description="ablation_crop.md: smallest shares of the image area that the pretraining of "
        "`arm` crops.",
    )
    pretrain_seeds: list[Annotated[int, Field(ge=0)]] = Field(
        [],
        description="ablation_variance.md: seeds that the pretraining of `arm` is repeated with, "
        "each finetuned with all the arm's seeds.",
    )
    arm: Name = Field(
        "mfm", description="The arm whose pretraining crop_area and pretrain_seeds vary."
    )

    @field_validator("val_resize", "loss", "crop_area", "pretrain_seeds")
    @classmethod
    def _different(cls, value: list[object]) -> list[object]:
        if len(set(value)) != len(value):
            raise ValueError("give each value once")
        return value


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


ARMS = (
    "give 'scratch', or exactly one of 'pretrain: NAME', 'weights: FILE', or 'as_long_as: ARM' "
    "(from scratch)"
)


class Initialisation(Section):
    """Where an arm's weights come from: give exactly one of the two."""

    pretrain: Name | None = Field(None, description="Name of a pretraining of this workflow.")
    seeds: list[int] | None = Field(
        None,
        min_length=1,
        description="Seeds of this arm, out of the experiment's; null is all of them. For a "
        "reference that needs fewer runs than the question does.",
    )
    weights: str | None = Field(
        None,
        description="A torchvision weight name (ResNet50_Weights.IMAGENET1K_V1) or a local .pth or "
        ".safetensors file.",
    )
    classifier: Literal["new", "keep"] = Field(
        "new",
        description="'keep': the classifier of these weights too, where it has as many classes as "
        "the dataset (in the same order: that is not checked); else, and with 'new', a new one.",
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.pretrain is None) == (self.weights is None):
            raise ValueError(ARMS)
        return self


class LongerScratch(Section):
    """Training from scratch for as long as another arm is trained, its pretraining included."""

    as_long_as: Name = Field(
        description="An arm with a pretraining of this workflow. This one is trained from scratch, "
        "for as many epochs more as show the pretraining's images, counted by their pixels (one of "
        "224 px counts as 2 of 160 px)."
    )
    seeds: list[int] | None = Field(
        None,
        min_length=1,
        description="Seeds of this arm, out of the experiment's; null is all of them.",
    )


def _kind_of_arm(value: object) -> str | None:
    if isinstance(value, LongerScratch) or (isinstance(value, dict) and "as_long_as" in value):
        return "longer"
    if isinstance(value, dict | Initialisation):
        return "initialisation"
    return "scratch" if value == "scratch" else None


Arm = Annotated[
    Annotated[Literal["scratch"], Tag("scratch")]
    | Annotated[Initialisation, Tag("initialisation")]
    | Annotated[LongerScratch, Tag("longer")],
    Discriminator(_kind_of_arm, custom_error_type="arm", custom_error_message=ARMS),
]


class Experiment(Section):
    """A whole experiment: one dataset, any pretrainings, one finetuning recipe, any arms."""

    results: str = Field(
        "results",
        min_length=1,
        description="Folder of everything this experiment writes. Another experiment, another "
        "folder: then no switch of configuration overwrites a finished run.",
    )
    seeds: list[int] = Field(
        [0, 1, 2], min_length=1, description="Seeds of finetuning; one run per arm and seed."
    )
    baseline: Name = Field("scratch", description="The arm that the others are compared with.")
    dataset: Dataset = Field(Dataset(), description="Images.")
    loader: Loader = "torchvision"
    model: Model = Field(Model(), description="Network.")
    pretrain: dict[Name, Pretraining] = Field(
        {}, description="Named pretrainings; only those that an arm uses are run."
    )
    initialisations: dict[Name, Arm] = Field(
        {"scratch": "scratch"}, min_length=1, description="The arms of the comparison."
    )
    finetune: Finetuning = Field(Finetuning(), description="Finetuning recipe of every arm.")
    label_efficiency: list[Amount] = Field(
        [],
        description="Amounts of labelled images that label_efficiency.md compares the arms at; one "
        "finetuning per amount, arm and seed, shared with the table where the recipe is the same.",
    )
    evaluate: Evaluation = Field(Evaluation(), description="Evaluation.")
    ablations: Ablations = Field(Ablations(), description="Ablations, each a file of its own.")

    @field_validator("label_efficiency")
    @classmethod
    def _amounts(cls, value: list[Amount]) -> list[Amount]:
        names = [amount.name for amount in value]
        if len(set(names)) != len(names):
            raise ValueError("give each amount of labelled images once")
        return value

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, value: list[int]) -> list[int]:
        if len(set(value)) != len(value) or any(seed < 0 for seed in value):
            raise ValueError("seeds are different whole numbers from 0")
        return value

    @model_validator(mode="after")
    def _amounts_fit(self) -> Self:
        for number, amount in enumerate(self.label_efficiency):
            try:
                amount.applied(self.finetune)
            except ValidationError as error:
                reason = error.errors()[0]["msg"].removeprefix("Value error, ")
                raise ValueError(
                    f"label_efficiency.{number} with the rest of finetune: {reason}"
                ) from None
        return self

    @model_validator(mode="after")
    def _ablations_fit(self) -> Self:
        ablations = self.ablations
        small = [size for size in ablations.val_resize if size < self.evaluate.crop]
        if small:
            raise ValueError(f"ablations.val_resize: {small} are below evaluate.crop")
        if not ablations.crop_area and not ablations.pretrain_seeds:
            return self
        source = self.initialisations.get(ablations.arm)
        training = self.pretrain.get(getattr(source, "pretrain", None) or "")
        if training is None:
            raise ValueError(
                f"ablations.arm: '{ablations.arm}' is no arm with a pretraining of this workflow"
            )
        large = [area for area in ablations.crop_area if area > training.crop.area[1]]
        if large:
            raise ValueError(f"ablations.crop_area: {large} are above the crop's largest area")
        seeds = getattr(source, "seeds", None) or self.seeds
        if ablations.pretrain_seeds and (
            len({*ablations.pretrain_seeds, training.seed}) < 2 or len(seeds) < 2
        ):
            raise ValueError(
                "ablations.pretrain_seeds: needs two pretrainings and two seeds of finetuning"
            )
        return self

    @model_validator(mode="after")
    def _references(self) -> Self:
        for arm, init in self.initialisations.items():
            other = set(getattr(init, "seeds", None) or ()) - set(self.seeds)
            if other:
                raise ValueError(
                    f"initialisations.{arm}.seeds: {sorted(other)} are not among seeds {self.seeds}"
                )
            name = init.pretrain if isinstance(init, Initialisation) else None
            if name is not None and name not in self.pretrain:
                raise ValueError(
                    f"initialisations.{arm} uses pretrain '{name}', which is not "
                    f"below 'pretrain:'{nearest(name, list(self.pretrain))}"
                )
            if isinstance(init, LongerScratch):
                known = [
                    other
                    for other, its in self.initialisations.items()
                    if isinstance(its, Initialisation) and its.pretrain is not None
                ]
                if init.as_long_as not in known:
                    raise ValueError(
                        f"initialisations.{arm}.as_long_as: '{init.as_long_as}' is not an arm with "
                        f"a pretraining of this workflow{nearest(init.as_long_as, known)}"
                    )
        if self.baseline not in self.initialisations:
            raise ValueError(
                f"baseline '{self.baseline}' is not below 'initialisations:'"
                f"{nearest(self.baseline, list(self.initialisations))}"
            )
        return self


class Job(Section):
    """What every job that sees images through the network depends on."""

    dataset: Dataset = Field(description="Images.")
    loader: Loader = "torchvision"
    model: Model = Field(description="Network.")


class PretrainRun(Job):
    """Everything that determines one pretraining."""

    stage: Literal["pretrain"] = Field("pretrain", description="Stage of the job.")
    name: Name = Field(description="Name of the pretraining.")
    training: Pretraining = Field(description="Recipe.")


class FinetuneRun(Job):
    """Everything that determines one finetuning, besides the files it reads."""

    stage: Literal["finetune"] = Field("finetune", description="Stage of the job.")
    init: Name = Field(description="Name of the arm.")
    source: Arm = Field(description="Where its weights come from.")
    seed: int = Field(ge=0, description="Seed of subset, order, augmentation and new layers.")
    training: Finetuning = Field(description="Recipe.")


class EvaluateRun(Job):
    """Everything that determines one evaluation, besides the weights it reads."""

    stage: Literal["evaluate"] = Field("evaluate", description="Stage of the job.")
    mean: Triple = Field(description="Normalisation of the finetuning.")
    std: PositiveTriple = Field(description="Normalisation of the finetuning.")
    evaluation: Evaluation = Field(description="Evaluation.")


class Demand(Section):
    """What one training asks of the dataset and the backbone."""

    key: str = Field(description="Its section in the configuration, e.g. 'pretrain.mfm'.")
    batch: int = Field(ge=1, description="Images per optimizer step.")
    batch_key: str = Field(description="The key that set `batch`.")
    split: Literal["train", "pretrain"] = Field(description="Split of the images it uses.")
    images_per_class: int | None = Field(description="Labelled images per class; null: all.")
    fraction: float | None = Field(description="Share of each class's images; null: all.")
    size: int | None = Field(
        None, description="Side in pixels that the backbone's stride has to divide, where it has."
    )
    size_key: str | None = Field(None, description="The key that set `size`.")


class LongerRun(Section):
    """A finetuning from scratch whose epochs have yet to be counted, once the images are known."""

    run: FinetuneRun = Field(description="The run, with the other arms' epochs.")
    pretraining: Demand = Field(description="Images of the pretraining that it makes up for.")
    epochs: int = Field(description="Epochs of that pretraining.")
    size: int = Field(description="Side of its training images in pixels.")


class Demands(Section):
    """What an experiment asks of the dataset and the backbone."""

    model: Model = Field(description="Network.")
    trainings: list[Demand] = Field(description="One entry per pretraining in use, and finetuning.")
    sizes: dict[str, int] = Field(
        {}, description="Sides in pixels of the images the network sees, by the key that sets them."
    )


class Recipe(Section):
    """An MFM pretraining, as far as the dataset's report needs it."""

    name: Name = Field(description="Name of the pretraining.")
    recipe: Literal["upstream", "paper"] = Field(description="Its normalisation.")
    radius: float = Field(gt=0, description="Mask radius in frequency bins.")
    size: int = Field(description="Side of a training image in pixels.")


class DatasetReportRun(Section):
    """Everything that determines the dataset's report, besides the images."""

    stage: Literal["dataset_report"] = Field("dataset_report", description="Stage of the job.")
    dataset: Dataset = Field(description="Images.")
    recipes: list[Recipe] = Field(description="MFM pretrainings in use.")
    mean: Triple = Field(description="Normalisation of the finetuning.")
    std: PositiveTriple = Field(description="Normalisation of the finetuning.")


SectionT = TypeVar("SectionT", bound=Section)


def parse(model: type[SectionT], values: object, *, where: str) -> SectionT:
    """Check `values` against `model`.

    Raises UserError with every problem, each with its key and, for an unknown key, the nearest
    valid name.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems = [explain(model, dict(problem)) for problem in error.errors()]
        raise UserError(f"{where}: " + "; ".join(problems)) from None


def load_json(model: type[SectionT], path: Path) -> SectionT:
    """Read a stage's resolved sub-config, as the workflow wrote it."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a readable configuration: {error}") from None
    return parse(model, values, where=str(path))


def load_yaml(path: Path) -> Experiment:
    """Read and check an experiment's YAML file."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not a readable configuration: {error}") from None
    return parse(Experiment, {} if values is None else values, where=str(path))


def dumps(section: Section) -> str:
    """Canonical JSON of a section: equal sections give equal text."""
    return json.dumps(section.model_dump(mode="json"), indent=2, sort_keys=True)


def dumps_ordered(section: Section) -> str:
    """JSON of a section with keys, such as the arms, in the order they were given."""
    return json.dumps(section.model_dump(mode="json"))


def config_hash(section: Section) -> str:
    """First 12 hexadecimal digits of the SHA-256 of the canonical JSON."""
    return hashlib.sha256(dumps(section).encode()).hexdigest()[:12]


def differing_keys(ours: object, theirs: object, prefix: str = "") -> list[str]:
    """Dotted names of the keys in which two nested dicts differ."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return [
            name
            for key in sorted(ours.keys() | theirs.keys())
            for name in differing_keys(ours.get(key), theirs.get(key), f"{prefix}{key}.")
        ]
    return [] if ours == theirs else [prefix.rstrip(".")]


def pretrain_split(training: Pretraining, dataset: Dataset) -> Literal["train", "pretrain"]:
    """The split that a pretraining uses: unlabelled images, where given and no label is needed."""
    labelled = isinstance(training, SupervisedPretraining) or dataset.unlabelled is None
    return "train" if labelled else "pretrain"


def evaluated_split(dataset: Dataset) -> Literal["holdout", "val"]:
    """The split that accuracies are measured on: images set aside of training, where there are."""
    return "holdout" if dataset.holdout_per_class else "val"


def is_path(weights: str) -> bool:
    """Whether initial weights name a file, and not torchvision weights or 'scratch'."""
    name = weights.removeprefix("torchvision/")
    return "/" in name or Path(name).suffix in (".pth", ".pt", ".safetensors", ".bin", ".ckpt")


def default_radius(size: int) -> float:
    """16 frequency bins at 224 px (paper section 4.1), scaled with the image side."""
    return 16.0 * size / 224


def default_low_pass(*, recipe: str, backbone: str) -> float:
    """Share of low-pass images: 0.5, and 0.3 for ResNets in the paper's released configs."""
    return 0.3 if recipe == "paper" and "resnet" in backbone else 0.5
