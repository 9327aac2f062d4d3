"""Job of a training: everything that determines one run, and what the run leaves."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from mfm.data.settings import LoaderChoice, Seen
from mfm.models.settings import Model
from mfm.settings.section import Section, dumps
from mfm.training.settings import Training
from mfm.training.task import Inputs, Task

if TYPE_CHECKING:  # jobs are written and read without importing torch
    from mfm.data.linking.manifest import Images
    from mfm.data.loading.order import Plan
    from mfm.training.loop import Observer


class Job(Section):
    """What every job that sees images through the network depends on."""

    stage: str = Field(description="Stage of the job.")
    dataset: Seen = Field(description="Images.")
    loader: LoaderChoice = "torchvision"
    model: Model = Field(description="Network.")


@dataclass(frozen=True, kw_only=True)
class Initial:
    """What a run started from."""

    text: str  # a line for the log
    checksum: str = "-"  # SHA-256 of the weight file, in hexadecimal
    classifier: str = "new"  # or 'kept'
    said: Mapping[str, str] | None = None  # what the file, or its source, says of it
    file: Path | None = None  # what was read of weights with a name


class TrainingJob(Job):
    """Everything that determines one training, besides the files it reads."""

    training: Training = Field(description="Recipe.")

    @property
    @abstractmethod
    def title(self) -> str:
        """What the run is called in the results: a pretraining's or an arm's name."""

    @property
    @abstractmethod
    def run_seed(self) -> int:
        """Seed of everything random in the run, which no run of another stage has."""

    @property
    @abstractmethod
    def weights_file(self) -> str:
        """Name of the file of trained weights that the run leaves."""

    @property
    @abstractmethod
    def initial_weights(self) -> str | None:
        """What it starts from: a file, a name, or 'scratch'; None for what another run leaves."""

    @property
    @abstractmethod
    def splits(self) -> list[str]:
        """The splits of the dataset that it reads images of."""

    @property
    def size(self) -> int:
        """Side of a training image in pixels."""
        return self.training.crop.size or self.dataset.image_size

    def identity(self, **files: str) -> dict[str, Any]:
        """What a checkpoint of this run belongs to: configuration, seed, checksums of its files."""
        return {"config": json.loads(dumps(self)), "seed": self.run_seed, "files": files}

    def inputs(self, images: Images) -> Inputs:
        """What the task is built for."""
        return self.inputs_of(classes=len(images.classes), rows=images.rows)

    def inputs_of(self, *, classes: int, rows: Any) -> Inputs:
        """The same from the number of classes and the images' manifest rows."""
        return Inputs(
            model=self.model, size=self.size, classes=classes, rows=rows, seed=self.run_seed
        )

    def with_known_length(self, manifest_path: Path) -> TrainingJob:
        """The job with its number of epochs, where that follows from the images."""
        return self

    @abstractmethod
    def images(self, manifest_path: Path) -> Images:
        """The images that it trains on."""

    @abstractmethod
    def load(self, task: Task, weights: str) -> Initial:
        """Give the network its initial weights: a file, a name, or 'scratch'.

        Raises UserError for weights of another model.
        """

    @abstractmethod
    def observer(self, *, manifest_path: Path, run: Path, plan: Plan) -> Observer | None:
        """What looks at the training as it goes on, for the report; None where nothing does."""

    @abstractmethod
    def facts(self, images: Images, initial: Initial) -> dict[str, str]:
        """What the trained weights say of themselves, besides what every training's say."""

    @abstractmethod
    def leave(self, run: Path, *, images: Images, last_checkpoint: Path) -> list[Path]:
        """Leave the run's other final files, beside weights and metrics."""
