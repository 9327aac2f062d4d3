"""The images of an experiment, and the program that reads them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from mfm.config.section import Name, Section

LoaderName = Literal["torchvision", "dali"]
Loader = Annotated[
    LoaderName,
    Field(
        description="What decodes and resizes images: 'torchvision' (Pillow's pixels) or 'dali' "
        "(NVIDIA DALI: faster on JPEGs, on a GPU too). Order, crops and flips are the same."
    ),
]


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


def evaluated_split(dataset: Dataset) -> Literal["holdout", "val"]:
    """The split that accuracies are measured on: images set aside of training, where there are."""
    return "holdout" if dataset.holdout_per_class else "val"
