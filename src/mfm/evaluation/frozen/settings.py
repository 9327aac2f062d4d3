"""Settings of the frozen features, and the job that measures one kind of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mfm.evaluation.settings import ClassificationJob
from mfm.settings.section import Name, Section, Seeds

PIXELS, RANDOM = "pixels", "random"
FLOORS = (PIXELS, RANDOM)


class Frozen(Section):
    """Logistic regression and kNN on frozen features, frozen.csv.

    Of raw pixels and of random weights, below which no trained arm should be, and of the weights
    that each arm starts from; with each seed's labelled images.
    """

    # Of 3, 5, 10 and 20, on held-out images of Fashion-MNIST with 10 to 100 labels a class: within
    # a point of the best for pixels, random weights and a pretraining. 20 is 2 to 10 points worse.
    knn: int = Field(5, ge=1, description="Neighbours that vote: best fewer than labels a class.")


class FrozenJob(ClassificationJob):
    """Everything that determines one kind of features' accuracies, besides the files it reads."""

    stage: Literal["frozen"] = Field("frozen", description="Stage of the job.")
    features: Name = Field(description="'pixels', 'random', or the arm whose initial weights.")
    seeds: Seeds = Field(description="Seeds of the labelled images, and of random weights.")
    images_per_class: int | None = Field(description="As in finetuning.")
    fraction: float | None = Field(description="As in finetuning.")
    frozen: Frozen = Field(description="Settings of the methods.")

    @property
    def splits(self) -> list[str]:
        """That of the labelled images too."""
        return ["train", *super().splits]
