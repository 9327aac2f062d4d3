"""A whole experiment, as config.yaml describes it: data, recipes, arms and ablations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

import yaml
from pydantic import Discriminator, Field, Tag, ValidationError, field_validator, model_validator

from mfm.config.dataset import Dataset, Loader
from mfm.config.section import Name, Section, parse
from mfm.config.training import Evaluation, Finetuning, Model, Pretraining
from mfm.config_errors import UniqueKeyLoader, nearest
from mfm.errors import UserError


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


def load_yaml(path: Path) -> Experiment:
    """Read and check an experiment's YAML file."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path} is not a readable configuration: {error}") from None
    return parse(Experiment, {} if values is None else values, where=str(path))
