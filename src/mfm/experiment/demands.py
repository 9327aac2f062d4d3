"""Demands of an experiment on the dataset and the backbone, checked before any training starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from pydantic import Field

from mfm.data.linking.selection import share
from mfm.data.loading.order import Plan
from mfm.errors import UserError, several
from mfm.experiment.jobs import split_of
from mfm.experiment.resolve import own_amount, probed_amounts, used_pretrainings
from mfm.experiment.settings import Experiment
from mfm.experiment.variants import Runs
from mfm.models.facts import check_size, facts_of, refusal
from mfm.models.settings import Model
from mfm.settings.section import Section, dumps
from mfm.training.settings import Training

# Side of the last feature map below which a pretraining that predicts images has learned little: a
# ResNet-18 at 32 px, whose map is 1x1, predicted nothing from low frequencies after 60,000 images.
FEW_POSITIONS = 4
_USUAL = (32, 64, 96, 128, 160, 224, 256, 299, 384)


class _Asked(Section):
    variant: str = Field("", description="The variant that asks it; '': the experiment itself.")

    @property
    def source(self) -> str:
        """Where to look, at the end of a message."""
        return f" (with {self.variant})" if self.variant else ""


class Demand(_Asked):
    """What one training asks of the dataset."""

    key: str = Field(description="Its section in the configuration, e.g. 'pretrain.mfm'.")
    batch: int = Field(ge=1, description="Images per optimizer step.")
    split: Literal["train", "pretrain"] = Field(description="Split of the images it uses.")
    images_per_class: int | None = Field(None, description="Labelled images per class; null: all.")
    fraction: float | None = Field(None, description="Share of each class's images; null: all.")

    @property
    def left(self) -> str:
        """What leaves fewer images than the dataset has, for a message."""
        if self.fraction is not None:
            return f" with {self.key}.fraction {self.fraction:g}"
        if self.images_per_class is not None:
            return f" with {self.key}.images_per_class {self.images_per_class}"
        return ""


class Sizes(_Asked):
    """Sides in pixels of the images that a network sees."""

    model: Model = Field(description="Network.")
    sides: dict[str, int] = Field(description="Each size, by the key that sets it.")
    predicted: dict[str, str] = Field(
        description="For a pretraining that predicts whole images the key of their size, which the "
        "network's stride has to divide."
    )
    alone: dict[str, str] = Field(
        description="For a training whose processes hold a single image at once the key of its "
        "size."
    )


class Demands(Section):
    """What an experiment and its variants ask of the dataset and the backbone."""

    trainings: list[Demand] = Field(description="One entry per pretraining in use, and finetuning.")
    sizes: list[Sizes] = Field(description="One entry per network.")
    top_k: int | None = Field(None, description="k, where the question is about top-k.")


def variant_names(runs: Runs) -> dict[str, str]:
    """What a message calls the experiment of a folder; nothing for the experiment itself."""
    return {
        each.folder: f"variants.{each.study}: {each.name}"
        for variants in runs.studies.values()
        for each in variants
        if not each.own
    } | {each.folder: f"tuning.grid: {each.name}" for each in runs.trials.values()}


def demands_of(runs: Runs) -> Demands:
    """What the trainings of an experiment and its variants ask."""
    names = variant_names(runs)
    trainings: dict[str, Demand] = {}
    sizes: dict[str, Sizes] = {}
    for folder in runs.folders:
        said = {"variant": names.get(folder, "")}
        # What another one asks as well is told once, of the first.
        for demand in _trainings(runs.at(folder)):
            trainings.setdefault(dumps(demand), demand.model_copy(update=said))
        seen = _sizes(runs.at(folder))
        sizes.setdefault(dumps(seen), seen.model_copy(update=said))
    experiment = runs.experiment
    return Demands(
        trainings=list(trainings.values()),
        sizes=list(sizes.values()),
        top_k=experiment.evaluate.top_k if experiment.metric == "top_k" else None,
    )


def _trainings(experiment: Experiment) -> list[Demand]:
    training = experiment.finetune
    return [
        *(
            Demand(
                key=f"pretrain.{name}",
                split=split_of(each, experiment.dataset),
                batch=each.batch,
            )
            for name, each in used_pretrainings(experiment).items()
        ),
        Demand(
            key="finetune",
            split="train",
            batch=training.batch,
            images_per_class=training.images_per_class,
            fraction=training.fraction,
        ),
        *(
            Demand(key="frozen", split="train", batch=1, images_per_class=amount.images_per_class)
            for amount in probed_amounts(experiment)
            if amount.images_per_class is not None and amount != own_amount(experiment)
        ),
    ]


def _sizes(experiment: Experiment) -> Sizes:
    sides, predicted, alone = {}, {}, {}
    pretrainings = {
        f"pretrain.{name}": each for name, each in used_pretrainings(experiment).items()
    }
    for key, training in {**pretrainings, "finetune": experiment.finetune}.items():
        own = training.crop.size
        set_by = f"{key}.crop.size" if own else "dataset.image_size"
        sides[set_by] = own or experiment.dataset.image_size
        if key in pretrainings and pretrainings[key].predicts_images:
            predicted[key] = set_by
        if _held(training) == 1:
            alone[key] = set_by
    sides["evaluate.crop"] = experiment.evaluate.crop
    return Sizes(model=experiment.model, sides=sides, predicted=predicted, alone=alone)


def _held(training: Training) -> int:
    """Images that a process holds at once, each as often as it has views."""
    plan = Plan(
        images=training.batch,
        batch=training.batch,
        micro_batch=training.micro_batch,
        seed=0,
        rank=0,
        world=training.ranks,
        pairs=False,  # a pair is more than one
    )
    return training.views * plan.held


def check_counts(demands: Demands, summary: dict[str, Any]) -> None:
    """Check a dataset, described as `mfm.data.linking.link.summary` does, for enough images.

    Raises UserError with all that `count_faults` finds.
    """
    splits = summary["splits"]
    # Unlabelled images have no classes.
    counts = {name: each.get("per_class", {"": each["images"]}) for name, each in splits.items()}
    faults = count_faults(demands, counts)
    if faults:
        raise several(faults)


def count_faults(demands: Demands, counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """What is asked in vain of so many images of each class by split, with the configuration's key.

    More labelled images than a class has, and batches larger than the training images. Nothing is
    said of a split whose numbers aren't known.
    """
    faults: dict[str, None] = {}
    for demand in demands.trainings:
        if demand.split not in counts:
            continue
        try:
            images = images_used(demand, counts[demand.split])
        except UserError as error:
            faults[str(error)] = None
            continue
        kind = "training" if demand.split == "train" else "unlabelled"
        if demand.batch > images:
            told = (
                f"{demand.key}.batch is {demand.batch}, but there are only {images} {kind} images"
                f"{demand.left}; lower it{demand.source}"
            )
            faults[told] = None
    classes = len(counts.get("train", ()))
    if demands.top_k is not None and 0 < classes <= demands.top_k:
        told = f"question.metric is top_k, and evaluate.top_k {demands.top_k}, but there are only "
        faults[f"{told}{classes} classes; lower it, or ask about another metric"] = None
    return list(faults)


def images_used(demand: Demand, counts: Mapping[str, int]) -> int:
    """Images that a training uses, of so many of each class.

    Raises UserError for more labelled images than a class has.
    """
    if demand.images_per_class is None and demand.fraction is None:
        return sum(counts.values())
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


def check_sizes(demands: Demands) -> list[str]:
    """Check image sizes against the backbone's stride; builds the backbone the first time.

    Returns a line for each pretraining that has to predict whole images through few positions.

    Raises UserError as `mfm.models.facts.check_size` does, for a backbone that timm
    doesn't know, and for several sizes with one that is made for a single size.
    """
    remarks = []
    for sizes in demands.sizes:
        try:
            remarks += [f"{line}{sizes.source}" for line in _check_network(sizes)]
        except UserError as error:
            raise UserError(f"{error}{sizes.source}") from None
    return remarks


def _check_network(sizes: Sizes) -> list[str]:
    backbone = sizes.model.backbone
    remarks: list[str] = []
    if len(set(sizes.sides.values())) > 1 and facts_of(sizes.model).fixed_size:
        listed = ", ".join(f"{key} is {size}" for key, size in sizes.sides.items())
        raise UserError(
            f"{backbone} is made for one image size, by its position embedding or windows, but "
            f"{listed}; make them equal"
        )
    for key, size in sizes.sides.items():
        _check_taken(sizes.model, key, size)
    for training, key in sizes.alone.items():
        if refusal(sizes.model, size=sizes.sides[key], images=1) is not None:
            raise UserError(
                f"{training}.batch: each process holds a single image at once, on which "
                f"{backbone}'s batch norm can't be trained at {sizes.sides[key]} px; raise "
                f"{training}.batch (or micro_batch) to 2 a process or more"
            )
    if sizes.predicted:
        step = facts_of(sizes.model).stride
        for training, key in sizes.predicted.items():
            check_size(sizes.sides[key], step, backbone=backbone, key=key, what=training)
            side = sizes.sides[key] // step
            if side < FEW_POSITIONS:
                remarks.append(
                    f"{training}: {backbone}'s last map is {side}x{side} at {sizes.sides[key]} px, "
                    f"few positions to predict an image through; from {FEW_POSITIONS}x"
                    f"{FEW_POSITIONS} on it learns better: set model.stem_stride (ResNets), "
                    f"model.options (timm's patch size or output stride), or {key} to "
                    f"{FEW_POSITIONS * step} or more"
                )
    for key, size in sizes.sides.items():
        _check_patches(sizes.model, key, size)
    return remarks


def _check_taken(model: Model, key: str, size: int) -> None:
    why = refusal(model, size=size, images=2)
    if why is None:
        return
    fit = (each for each in _USUAL if each > size and refusal(model, size=each, images=2) is None)
    larger = next(fit, None)
    advice = "choose another size or backbone" if larger is None else f"{larger} does"
    raise UserError(f"{key} is {size}, which doesn't fit {model.backbone} ({why}); {advice}")


def _check_patches(model: Model, key: str, size: int) -> None:
    """A ViT would leave out what is left over beside its patches, without a word."""
    patch = facts_of(model).patch
    if patch is not None and size % patch:
        nearest = max(patch, round(size / patch) * patch)
        raise UserError(
            f"{key} is {size}, which {model.backbone}'s patches of {patch} px don't divide; set it "
            f"to {nearest}, or model.options: {{patch_size: ...}} to a divisor"
        )
