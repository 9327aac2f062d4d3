"""Jobs of the workflow: each job's own settings, that determine its result, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from mfm.data.settings import Dataset
from mfm.errors import UserError
from mfm.experiment.arms import Arm, FromWeights
from mfm.experiment.equal_cost import MadeUpFor
from mfm.objectives import Pretraining
from mfm.objectives.supervised.settings import Finetuning
from mfm.settings.section import (
    SEEDS,
    Name,
    PerChannel,
    PositivePerChannel,
    Section,
    Seed,
    parse,
    read_json,
)
from mfm.training.job import Initial, TrainingJob
from mfm.training.task import Task

if TYPE_CHECKING:  # jobs are written and read without importing torch
    from mfm.data.linking.manifest import Images
    from mfm.data.loading.order import Plan
    from mfm.training.loop import Observer


class PretrainJob(TrainingJob):
    """Everything that determines one pretraining."""

    stage: Literal["pretrain"] = Field("pretrain", description="Stage of the job.")
    name: Name = Field(description="Name of the pretraining.")
    training: Pretraining = Field(description="Recipe.")
    split: Literal["train", "pretrain"] = Field(
        description="Its images: unlabelled ones, where there are some and no label is needed."
    )

    @property
    def title(self) -> str:
        """The pretraining's name."""
        return self.name

    @property
    def seed(self) -> int:
        """The one seed that its recipe has here."""
        (seed,) = self.training.seeds
        return seed

    @property
    def run_seed(self) -> int:
        """Beyond every finetuning's.

        A finetuning of the same seed would begin with the same weights, a supervised pretraining's
        classifier included (85% correct before the first step, on Fashion-MNIST).
        """
        return SEEDS + self.seed

    @property
    def weights_file(self) -> str:
        """Of the backbone."""
        return "backbone.safetensors"

    @property
    def splits(self) -> list[str]:
        """Its own, and what is shown of the validation images on the way."""
        return list(dict.fromkeys([self.split, "val"] if self.training.pictured else [self.split]))

    @property
    def initial_weights(self) -> str:
        """A file to go on from, where the recipe names one."""
        return self.training.weights or "scratch"

    def images(self, manifest_path: Path) -> Images:
        """All images of its split."""
        from mfm.data.linking import manifest

        return manifest.load(manifest_path, self.split)

    def load(self, task: Task, weights: str) -> Initial:
        """The backbone of a file to go on from, and what the task has above it."""
        from mfm.models.sources import origin_of
        from mfm.models.weights import load_backbone, read_weights, weights_checksum

        if weights == "scratch":
            return Initial(text="new weights")
        tensors = read_weights(weights)
        report = load_backbone(
            task.backbone,
            tensors,
            source=weights,
            origin=origin_of(weights),
            normalisation=self.training.normalisation(),
        )
        head = "loaded too" if self.training.load_head(task, tensors) else "new"
        return Initial(
            text=f"going on from {weights}: {report}; the head is {head}",
            checksum=weights_checksum(weights),
        )

    def observer(self, *, manifest_path: Path, run: Path, plan: Plan) -> Observer | None:
        """What keeps predictions of fixed images, where the task is to show some."""
        from mfm.objectives.pictures import Snapshots, fixed_images

        if not self.training.pictured:
            return None
        images = fixed_images(self.training.pictured, manifest_path=manifest_path, size=self.size)
        return Snapshots(
            run,
            pictures=self.training.pictures(model=self.model, size=self.size),
            images=images,
            epochs=self.training.epochs,
            steps_per_epoch=plan.steps_per_epoch,
        )

    def facts(self, images: Images, initial: Initial) -> dict[str, str]:
        """Its name and seed."""
        return {"pretraining": self.name, "seed": str(self.seed)}

    def leave(self, run: Path, *, images: Images, last_checkpoint: Path) -> list[Path]:
        """The full state after the last epoch."""
        from mfm.training import checkpoint

        checkpoint.copy(last_checkpoint, run / "checkpoint.pt")
        return [run / "checkpoint.pt"]


class FinetuneJob(TrainingJob):
    """Everything that determines one finetuning, besides the files it reads."""

    stage: Literal["finetune"] = Field("finetune", description="Stage of the job.")
    arm: Name = Field(description="Name of the arm.")
    source: Arm = Field(description="Where its weights come from.")
    seed: Seed = Field(description="Seed of subset, order, augmentation and new layers.")
    training: Finetuning = Field(description="Recipe.")
    curve: Literal["val", "holdout"] = Field(
        description="Images of the accuracy on the way: those set aside, where there are some."
    )
    makes_up_for: MadeUpFor | None = Field(
        None, description="Pretraining that this run is to be as long as, together with its own."
    )

    @property
    def title(self) -> str:
        """The arm's name."""
        return self.arm

    @property
    def run_seed(self) -> int:
        """The finetuning's."""
        return self.seed

    @property
    def weights_file(self) -> str:
        """Of the classifier."""
        return "model.safetensors"

    @property
    def splits(self) -> list[str]:
        """The labelled one, that of the accuracy on the way, and of whom it makes up for."""
        curve = [self.curve] if self.training.curve_images else []
        other = [self.makes_up_for.split] if self.makes_up_for else []
        return list(dict.fromkeys(["train", *curve, *other]))

    @property
    def initial_weights(self) -> str | None:
        """The arm's; None where they are a pretraining's."""
        return self.source.weights if isinstance(self.source, FromWeights) else "scratch"

    def with_known_length(self, manifest_path: Path) -> FinetuneJob:
        """With as many epochs more as the pretraining's pixels fill that it makes up for."""
        from mfm.data.linking import manifest

        if self.makes_up_for is None:
            return self
        epochs = self.makes_up_for.epochs_more(
            images=manifest.count(manifest_path, self.makes_up_for.split),
            own_images=len(self.images(manifest_path)),
            batch=self.training.batch,
            size=self.size,
        )
        training = self.training.model_dump() | {"epochs": self.training.epochs + epochs}
        return self.model_copy(update={"training": Finetuning.model_validate(training)})

    def images(self, manifest_path: Path) -> Images:
        """The labelled images that the seed draws, alike for every arm."""
        from mfm.data.linking import manifest
        from mfm.data.linking.selection import labelled_positions

        labelled = manifest.load(manifest_path, "train")
        return labelled.take(
            labelled_positions(
                labelled.labels,
                labelled.classes,
                self.training.images_per_class,
                fraction=self.training.fraction,
                seed=self.seed,
            )
        )

    def load(self, task: Task, weights: str) -> Initial:
        """The backbone, and the classifier where the arm keeps it."""
        from mfm.models.metadata import read_metadata
        from mfm.models.sources import origin_of
        from mfm.models.weights import load_backbone, read_weights, weights_checksum

        if weights == "scratch":
            return Initial(text="from scratch")
        keep = isinstance(self.source, FromWeights) and self.source.classifier == "keep"
        tensors = read_weights(weights)
        checksum = weights_checksum(weights)
        origin = origin_of(weights)
        report = load_backbone(
            task.model,
            tensors,
            source=weights,
            keep_classifier=keep,
            origin=origin,
            normalisation=self.training.normalisation(),
        )
        path = Path(weights).expanduser()
        said = read_metadata(path) if path.suffix == ".safetensors" else None
        return Initial(
            text=f"initialised from {weights} (SHA-256 {checksum}): {report}",
            classifier="kept" if report.kept_classifier else "new",
            checksum=checksum,
            said=origin.facts() | report.facts() | (said or {}),
            file=origin.file,
        )

    def observer(self, *, manifest_path: Path, run: Path, plan: Plan) -> Observer | None:
        """What measures accuracy on the way for the report, where it is asked for."""
        from mfm.objectives.supervised import accuracy_curve

        file = run / accuracy_curve.NAME
        if self.training.curve_images == 0:
            file.unlink(missing_ok=True)  # of a finished run that was asked
            return None
        return accuracy_curve.AccuracyCurve(
            file,
            training=self.training,
            images=accuracy_curve.fixed_images(
                self.training, self.curve, size=self.size, manifest_path=manifest_path
            ),
            steps_per_epoch=plan.steps_per_epoch,
        )

    def facts(self, images: Images, initial: Initial) -> dict[str, str]:
        """Arm, labelled images, and what it started from, each of its facts after 'initial_'."""
        source = self.source if isinstance(self.source, FromWeights) else None
        return {
            "seed": str(self.seed),
            "arm": self.arm,
            "pretraining": (source and source.pretrain) or "-",
            "classes": str(len(images.classes)),
            "train_images": str(len(images)),
            "initialised": initial.text,
            "classifier": initial.classifier,
            "initial_sha256": initial.checksum,
            **{f"initial_{key}": value for key, value in (initial.said or {}).items()},
        }

    def leave(self, run: Path, *, images: Images, last_checkpoint: Path) -> list[Path]:
        """The labelled images that were used."""
        from mfm.files.lines import write_lines

        write_lines(run / "subset.txt", images.paths.to_pylist())
        curve = [run / "accuracy.csv"] if self.training.curve_images else []
        return [run / "subset.txt", *curve]


class DatasetReportJob(Section):
    """Everything that determines the dataset's report, besides the images."""

    stage: Literal["dataset_report"] = Field("dataset_report", description="Stage of the job.")
    dataset: Dataset = Field(description="Images.")
    pretrainings: dict[Name, Pretraining] = Field(description="Pretrainings in use.")
    mean: PerChannel = Field(description="Normalisation of the finetuning.")
    std: PositivePerChannel = Field(description="Normalisation of the finetuning.")


_TRAININGS: dict[str, type[TrainingJob]] = {"pretrain": PretrainJob, "finetune": FinetuneJob}


def load_training(path: Path) -> PretrainJob | FinetuneJob:
    """A pretraining's or a finetuning's job, as the workflow wrote it.

    Raises UserError for another file.
    """
    return parse_training(read_json(path), where=str(path))


def parse_training(values: dict[str, Any], *, where: str) -> PretrainJob | FinetuneJob:
    """A job from its plain values."""
    model = _TRAININGS.get(str(values.get("stage")))
    if model is None:
        raise UserError(f"{where} is of no training: its stage is {values.get('stage')!r}")
    job = parse(model, values, where=where)
    assert isinstance(job, PretrainJob | FinetuneJob)
    return job


def split_of(training: Pretraining, dataset: Dataset) -> Literal["train", "pretrain"]:
    """The split that a pretraining uses: unlabelled images, where given and no label is needed."""
    return "train" if training.labelled or dataset.unlabelled is None else "pretrain"
