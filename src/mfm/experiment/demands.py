"""Demands of an experiment on the dataset and the backbone, checked before any training starts."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from pydantic import Field

from mfm.data.selection import share
from mfm.errors import UserError
from mfm.experiment.jobs import split_of
from mfm.experiment.resolve import used_pretrainings
from mfm.experiment.settings import Experiment
from mfm.experiment.variants import Runs
from mfm.models.settings import Model
from mfm.objectives.supervised.settings import Finetuning
from mfm.settings.section import Section


class Demand(Section):
    """What one training asks of the dataset and the backbone."""

    key: str = Field(description="Its section in the configuration, e.g. 'pretrain.mfm'.")
    variant: str = Field("", description="The variant that asks it; '': the experiment itself.")
    batch: int = Field(ge=1, description="Images per optimizer step.")
    split: Literal["train", "pretrain"] = Field(description="Split of the images it uses.")
    images_per_class: int | None = Field(None, description="Labelled images per class; null: all.")
    fraction: float | None = Field(None, description="Share of each class's images; null: all.")
    size: int | None = Field(
        None, description="Side in pixels that the backbone's stride has to divide, where it has."
    )
    size_key: str = Field("", description="The key that set `size`.")

    @property
    def source(self) -> str:
        """Where to look, at the end of a message."""
        return f" (with {self.variant})" if self.variant else ""


class Demands(Section):
    """What an experiment asks of the dataset and the backbone, its variants included."""

    model: Model = Field(description="Network.")
    trainings: list[Demand] = Field(description="One entry per pretraining in use, and finetuning.")
    sizes: dict[str, int] = Field(
        {}, description="Sides in pixels of the images the network sees, by the key that sets them."
    )


def demands_of(runs: Runs) -> Demands:
    """What the trainings of an experiment and its variants ask."""
    asked: dict[tuple[object, ...], Demand] = {}
    names = {
        each.folder: f"variants.{each.study}: {each.name}"
        for variants in runs.studies.values()
        for each in variants
        if not each.own
    }
    for folder in runs.folders:
        variant = names.get(folder, "")
        for demand in _of_one(runs.at(folder)):
            key = tuple(demand.model_dump().values())
            asked.setdefault(key, demand.model_copy(update={"variant": variant}))
    return Demands(
        model=runs.experiment.model,
        sizes=_sizes(runs.experiment),
        trainings=list(asked.values()),
    )


def _of_one(experiment: Experiment) -> list[Demand]:
    found = []
    for name, training in used_pretrainings(experiment).items():
        key = f"pretrain.{name}"
        demand = Demand(key=key, split=split_of(training, experiment.dataset), batch=training.batch)
        if training.predicts_images:
            own = training.crop.size
            size_key = f"{key}.crop.size" if own else "dataset.image_size"
            size = {"size": own or experiment.dataset.image_size, "size_key": size_key}
            demand = demand.model_copy(update=size)
        found.append(demand)
    return [*found, _finetuning(experiment.finetune)]


def _finetuning(training: Finetuning) -> Demand:
    return Demand(
        key="finetune",
        split="train",
        batch=training.batch,
        images_per_class=training.images_per_class,
        fraction=training.fraction,
    )


def _sizes(experiment: Experiment) -> dict[str, int]:
    """Sides in pixels of the images that the network sees, by the key that sets them."""
    trainings = {f"pretrain.{name}": each for name, each in used_pretrainings(experiment).items()}
    sizes = {
        f"{key}.crop.size" if training.crop.size else "dataset.image_size": (
            training.crop.size or experiment.dataset.image_size
        )
        for key, training in {**trainings, "finetune": experiment.finetune}.items()
    }
    return sizes | {"evaluate.crop": experiment.evaluate.crop}


def check_counts(demands: Demands, summary: dict[str, Any]) -> None:
    """Check a dataset, described as `mfm.data.link.summary` does, for enough images.

    Raises UserError, with the configuration's key, for more labelled images than a class has and
    for a batch larger than the training images.
    """
    for demand in demands.trainings:
        images = images_used(demand, summary["splits"][demand.split])
        kind = "training" if demand.split == "train" else "unlabelled"
        if demand.batch > images:
            raise UserError(
                f"{demand.key}.batch is {demand.batch}, but there are only {images} {kind} images; "
                f"lower it{demand.source}"
            )


def images_used(demand: Demand, split: dict[str, Any]) -> int:
    """Images that a training uses, of its split in a dataset's summary.

    Raises UserError for more labelled images than a class has.
    """
    if demand.images_per_class is None and demand.fraction is None:
        return int(split["images"])
    counts: dict[str, int] = split["per_class"]
    if demand.fraction is not None:
        return int(share(np.array(list(counts.values())), demand.fraction).sum())
    assert demand.images_per_class is not None
    smallest = min(counts, key=lambda name: counts[name])
    if counts[smallest] < demand.images_per_class:
        raise UserError(
            f"{demand.key}.images_per_class is {demand.images_per_class}, but class {smallest} has "
            f"{counts[smallest]} training images; lower it{demand.source}"
        )
    return demand.images_per_class * len(counts)


def check_sizes(demands: Demands) -> None:
    """Check image sizes against the backbone's stride; builds the backbone, which takes seconds.

    Raises UserError as `mfm.models.reconstruction.check_size` does, for a backbone that timm
    doesn't know, and for several sizes with one that is made for a single size.
    """
    if len(set(demands.sizes.values())) > 1:
        from mfm.models.backbones import has_fixed_size

        if has_fixed_size(demands.model.backbone):
            listed = ", ".join(f"{key} is {size}" for key, size in demands.sizes.items())
            raise UserError(
                f"{demands.model.backbone} is made for one image size, by its position embedding "
                f"or windows, but {listed}; make them equal"
            )
    predicting = [demand for demand in demands.trainings if demand.size is not None]
    if predicting:
        from mfm.models.backbones import create_backbone, stride  # torch and timm
        from mfm.models.reconstruction import check_size

        step = stride(create_backbone(demands.model, classes=0))
        for demand in predicting:
            assert demand.size is not None
            check_size(
                demand.size,
                step,
                backbone=demands.model.backbone,
                key=demand.size_key,
                what=demand.key,
            )
