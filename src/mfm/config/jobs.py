"""Each job's own part of the configuration: what determines its result, and nothing else."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mfm.config.dataset import Dataset, Loader
from mfm.config.experiment import Arm
from mfm.config.section import Name, PositiveTriple, Section, Triple
from mfm.config.training import Evaluation, Finetuning, Model, Pretraining


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
