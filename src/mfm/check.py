"""What an experiment's trainings ask of the dataset and the backbone, before any of them starts."""

from __future__ import annotations

from typing import Any

import numpy as np

from mfm import config
from mfm.data.selection import share
from mfm.errors import UserError


def check_counts(demands: config.Demands, summary: dict[str, Any]) -> None:
    """Check a dataset, described as `mfm.data.link.summary` does, for enough images.

    Raises UserError, with the configuration's key, for more labelled images than a class has and
    for a batch larger than the training images.
    """
    for demand in demands.trainings:
        images = images_used(demand, summary["splits"][demand.split])
        kind = "training" if demand.split == "train" else "unlabelled"
        if demand.batch > images:
            own = f"{demand.key}.batch"
            raise UserError(
                f"{demand.batch_key} is {demand.batch}, but there are only {images} {kind} images"
                + ("; lower it" if demand.batch_key == own else f" in {demand.key}; set {own}")
            )


def images_used(demand: config.Demand, split: dict[str, Any]) -> int:
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
            f"{counts[smallest]} training images; lower it"
        )
    return demand.images_per_class * len(counts)


def check_sizes(demands: config.Demands) -> None:
    """Check image sizes against the backbone's stride; builds the backbone, which takes seconds.

    Raises UserError as `check_size` does, for a backbone that timm doesn't know, and for several
    sizes with one that is made for a single size.
    """
    if len(set(demands.sizes.values())) > 1:
        from mfm.models import has_fixed_size

        if has_fixed_size(demands.model.backbone):
            listed = ", ".join(f"{key} is {size}" for key, size in demands.sizes.items())
            raise UserError(
                f"{demands.model.backbone} is made for one image size, by its position embedding "
                f"or windows, but {listed}; make them equal"
            )
    predicting = [demand for demand in demands.trainings if demand.size is not None]
    if predicting:
        from mfm.models import create_backbone, stride  # torch and timm

        step = stride(create_backbone(demands.model, classes=0))
        for demand in predicting:
            check_size(demand, demands.model, step)


def check_size(demand: config.Demand, model: config.Model, stride: int) -> None:
    """Raise UserError where the stride does not divide the size of an image to predict."""
    if demand.size is not None and demand.size % stride:
        nearest = max(stride, round(demand.size / stride) * stride)
        raise UserError(
            f"{demand.size_key} is {demand.size}, but {demand.key} predicts whole images, so it "
            f"has to be a multiple of {model.backbone}'s stride {stride}; set it to {nearest}"
        )
