"""Settings of the frozen features, and the jobs that extract them and read labels from them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from mfm.evaluation.settings import ClassificationJob
from mfm.settings.section import Name, Section, Seeds

PIXELS, RANDOM = "pixels", "random"
FLOORS = (PIXELS, RANDOM)
LOGISTIC = "logistic"

Number = Annotated[int, Field(ge=1)]


def _different(values: list[int] | list[int | None]) -> list[int] | list[int | None]:
    if len(set(values)) != len(values):
        raise ValueError("give each number once")
    return values


class Frozen(Section):
    """Logistic regression and kNN on frozen features, probe.md.

    Of raw pixels and of random weights, below which no trained arm should be, and of the weights
    that each arm starts from; with each seed's labelled images.
    """

    images_per_class: Annotated[list[Number | None], AfterValidator(_different)] = Field(
        [],
        description="Amounts of labelled images a class that are read besides the finetuning's, "
        "each by seed; null in the list: all. Nothing is trained again for another amount.",
    )
    extract_per_class: Number | None = Field(
        None,
        description="Training images a class whose features are extracted, by seed; null: all. "
        "Up to it, nothing is extracted again for another amount.",
    )
    # What is usual with all labels (DINO, arXiv 2104.14294). With 10 to 100 labels a class, on
    # held-out images of Fashion-MNIST, 3, 5 and 10 were within a point of the best of 3, 5, 10, 20
    # for pixels, random weights and a pretraining; 20 was 2 to 10 points worse.
    knn: Annotated[list[Number], Field(min_length=1), AfterValidator(_different)] = Field(
        [10, 20], description="Numbers of neighbours that vote: best fewer than labels a class."
    )
    logistic_up_to: Number | None = Field(
        None,
        description="Most labelled images, of all classes, that logistic regression is fitted to; "
        "with more, neighbours alone are read. null: any number.",
    )

    @model_validator(mode="after")
    def _extracted(self) -> Self:
        for amount in self.images_per_class:
            self.check_extracted(amount, key="frozen.images_per_class")
        return self

    def check_extracted(self, amount: int | None, *, key: str) -> None:
        """Raise ValueError for more labelled images a class than features are extracted of."""
        most = self.extract_per_class
        if most is not None and (amount is None or amount > most):
            raise ValueError(
                f"frozen.extract_per_class is {most}, but {key} asks for "
                f"{'all images' if amount is None else amount}; raise it, or set it to null"
            )


class Amount(Section):
    """An amount of labelled images."""

    images_per_class: int | None = Field(None, description="Of each class; null: all.")
    fraction: float | None = Field(None, description="Or that share of each class's.")

    @property
    def name(self) -> str:
        """As rows have it: '25', '10%', 'all'."""
        if self.fraction is not None:
            return f"{100 * self.fraction:g}%"
        return "all" if self.images_per_class is None else str(self.images_per_class)


class FeaturesJob(ClassificationJob):
    """Everything that determines the features of one set of weights, besides the files it reads."""

    stage: Literal["features"] = Field("features", description="Stage of the job.")
    features: Name = Field(description="'pixels', 'random', or the arm whose initial weights.")
    seed: int | None = Field(description="Seed of random weights; null for others.")
    per_class: int | None = Field(description="Training images a class, by seed; null: all.")
    seeds: list[int] = Field(description="Seeds of these images; none where they are all.")

    @property
    def splits(self) -> list[str]:
        """That of the labelled images too."""
        return ["train", *super().splits]


class ProbeJob(Section):
    """Everything that determines what is read from one kind of features, besides their files."""

    stage: Literal["frozen"] = Field("frozen", description="Stage of the job.")
    features: Name = Field(description="'pixels', 'random', or the arm whose initial weights.")
    seeds: Seeds = Field(description="Seeds of the labelled images.")
    amounts: list[Amount] = Field(description="Amounts of labelled images.")
    split: str = Field(description="Images that accuracies are measured on.")
    knn: list[int] = Field(description="As in frozen.")
    logistic_up_to: int | None = Field(description="As in frozen.")

    @property
    def splits(self) -> list[str]:
        """The splits of the dataset that it reads."""
        return ["train", self.split]
