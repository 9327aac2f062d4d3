"""Layout of the results folder: the only place that spells a path in it.

Methods take names, or the workflow's wildcards in their place. `folder` is '' for the experiment
itself, and for a variant the folder of its own runs, with a '/' at its end.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mfm.files.records import record_of

DATA = "data"
TRAINED = ("backbone.safetensors", "model.safetensors")  # weights that a training run leaves
RECORDED = (*TRAINED, "results.csv", "table.md", "report.html")  # what has a record in any folder


def dataset_folder(name: str) -> Path:
    """Folder of a linked dataset, whose files all experiments on it share."""
    return Path(DATA) / name


def other_images_folder(name: str, evaluation: str) -> Path:
    """Folder beside a dataset of the other images that an evaluation is on."""
    return dataset_folder(name) / evaluation


@dataclass(frozen=True, kw_only=True)
class RunFiles:
    """Files of one training run."""

    folder: str
    log: str
    config_log: str
    benchmark: str
    weights: str

    @property
    def record(self) -> str:
        """What it read and left, by SHA-256."""
        return str(record_of(Path(self.weights)))

    @property
    def config(self) -> str:
        """The job's own resolved settings."""
        return f"{self.folder}/config.json"

    @property
    def metrics(self) -> str:
        """A row an epoch."""
        return f"{self.folder}/metrics.csv"

    @property
    def checkpoint(self) -> str:
        """Full state after a pretraining's last epoch."""
        return f"{self.folder}/checkpoint.pt"

    @property
    def pictures(self) -> str:
        """Folder of a pretraining's pictures."""
        return f"{self.folder}/pictures"

    @property
    def subset(self) -> str:
        """Labelled images of a finetuning, a path a line."""
        return f"{self.folder}/subset.txt"

    @property
    def curve(self) -> str:
        """Accuracy of a finetuning on its way, where it is asked for."""
        return f"{self.folder}/accuracy.csv"


@dataclass(frozen=True, kw_only=True)
class EvaluationFiles:
    """Files of one evaluation of one finetuned model."""

    row: str
    predictions: str
    log: str
    benchmark: str

    @property
    def record(self) -> str:
        """What it read and left, by SHA-256."""
        return str(record_of(Path(self.row)))


@dataclass(frozen=True)
class Layout:
    """Files of one experiment, below its results folder."""

    results: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "results", self.results.rstrip("/"))

    def file(self, name: str) -> str:
        """A file of the whole experiment, such as table.md."""
        return f"{self.results}/{name}"

    @property
    def rows(self) -> str:
        """A row for each finetuning of the experiment."""
        return self.file("results.csv")

    @property
    def asked(self) -> str:
        """The trainings that the configuration of the last start asks for, a folder a line."""
        return self.file("trainings.txt")

    def log(self, name: str) -> str:
        """Log of a job."""
        return f"{self.results}/logs/{name}.log"

    def benchmark(self, name: str) -> str:
        """Time and memory of a job, as Snakemake measures them."""
        return f"{self.results}/benchmarks/{name}.tsv"

    def pretraining(self, name: str, seed: int | str, *, folder: str = "") -> RunFiles:
        """Files of a pretraining."""
        return self._run(f"{folder}pretrain/{name}/seed{seed}", "backbone.safetensors")

    def finetuning(self, arm: str, seed: int | str, *, folder: str = "") -> RunFiles:
        """Files of a finetuning."""
        return self._run(f"{folder}finetune/{arm}/seed{seed}", "model.safetensors")

    def evaluation(
        self, arm: str, seed: int | str, *, folder: str = "", name: str = "evaluate"
    ) -> EvaluationFiles:
        """Files of an evaluation; `name` is that of a further one."""
        path = f"{folder}{name}/{arm}/seed{seed}"
        return EvaluationFiles(
            row=f"{self.results}/{path}.csv",
            predictions=f"{self.results}/{path}.parquet",
            log=self.log(path),
            benchmark=self.benchmark(path),
        )

    def evaluation_config(self, *, folder: str = "", name: str = "evaluate") -> str:
        """Resolved settings of all evaluations of that name."""
        return f"{self.results}/{folder}{name}/config.json"

    def features(self, features: str, start: str, ending: str = "parquet") -> str:
        """Frozen features of one kind and one set of weights; 'json': their settings."""
        return self.file(f"features/{features}/{start}.{ending}")

    def frozen(self, features: str = "", ending: str = "csv") -> str:
        """Accuracies on one kind of frozen features, or on all; 'json': their settings."""
        return self.file(f"frozen/{features}.{ending}" if features else f"frozen.{ending}")

    def probe(self, ending: str = "md") -> str:
        """What is read from frozen features, over amounts of labels."""
        return self.file(f"probe.{ending}")

    @property
    def tracking(self) -> str:
        """Folder of what trackers were sent, where they have no other place."""
        return self.file("tracking")

    def tracked(self, to: str) -> str:
        """Such a place of a tracker."""
        return f"{self.tracking}/{'mlflow.db' if to == 'mlflow' else to}"

    @property
    def losses(self) -> str:
        """Losses of the pretrainings beside those of constant predictions."""
        return self.file("losses.csv")

    @property
    def question(self) -> str:
        """The declared comparison, a line each time that it changed."""
        return self.file("question.csv")

    def weights(self, arm: str, *, folder: str = "") -> str:
        """What says that the weights which an arm starts from are here."""
        return f"{self.results}/{folder}weights/{arm}.json"

    def figure(self, name: str, kind: str = "svg") -> str:
        """A figure of the comparison."""
        return f"{self.results}/figures/{name}.{kind}"

    def variants(self, study: str, ending: str = "md") -> str:
        """The comparison over a study's values."""
        return f"{self.results}/variants/{study}.{ending}"

    def relative(self, path: str) -> str:
        """A path as a link from a file in the results folder; one elsewhere as it is."""
        inside = Path(path).is_relative_to(self.results)
        return Path(path).relative_to(self.results).as_posix() if inside else path

    def _run(self, path: str, weights: str) -> RunFiles:
        return RunFiles(
            folder=f"{self.results}/{path}",
            log=self.log(path),
            config_log=self.log(f"{path}.config"),
            benchmark=self.benchmark(path),
            weights=f"{self.results}/{path}/{weights}",
        )


def variant_folder(study: str, value: str) -> str:
    """Folder of the runs that a variant doesn't share, below the results."""
    return f"variants/{study}/{value}/"


@dataclass(frozen=True, kw_only=True)
class FinetunedModel:
    """Where a finetuned model lies, as its path tells."""

    layout: Layout
    folder: str
    arm: str
    seed: int

    @property
    def run(self) -> RunFiles:
        """Its run's files."""
        return self.layout.finetuning(self.arm, self.seed, folder=self.folder)

    @property
    def evaluation(self) -> EvaluationFiles:
        """Files of its evaluation for the table."""
        return self.layout.evaluation(self.arm, self.seed, folder=self.folder)


def locate(checkpoint: str) -> FinetunedModel | None:
    """Whose model a path is, as `Layout.finetuning` makes them; None for one made otherwise."""
    parts = Path(checkpoint).parts
    if len(parts) < 4 or parts[-4] != "finetune" or not parts[-2].startswith("seed"):
        return None
    seed, above = parts[-2].removeprefix("seed"), parts[:-4]
    if not seed.isdecimal():
        return None
    layout, variant = _split(above)
    folder = variant_folder(*variant) if variant else ""
    return FinetunedModel(layout=layout, folder=folder, arm=parts[-3], seed=int(seed))


def _split(folder: tuple[str, ...]) -> tuple[Layout, tuple[str, str] | None]:
    """The results that a folder of runs is in, and the study and value of a variant's."""
    variant = None
    if len(folder) >= 3 and folder[-3] == "variants":
        folder, variant = folder[:-3], (folder[-2], folder[-1])
    return Layout(Path(*folder).as_posix() if folder else "."), variant


def rows_of(weights: str) -> tuple[str, str | None] | None:
    """The rows that finetunings from or of a run's weights are in, and their value in a study.

    The value is None for the experiment's own runs, and all of it for weights elsewhere.
    """
    parts = Path(weights).parts
    if len(parts) < 4 or parts[-4] not in ("pretrain", "finetune"):
        return None
    layout, variant = _split(parts[:-4])
    return (layout.variants(variant[0], "csv"), variant[1]) if variant else (layout.rows, None)


def results_of(run: Path) -> str | None:
    """The results folder of a training run's folder; None for a folder that is in none."""
    if len(run.parts) < 3 or run.parts[-3] not in ("pretrain", "finetune"):
        return None
    return _split(run.parts[:-3])[0].results


def results_of_features(file: Path) -> str | None:
    """The results folder of a features file, as `Layout.features` makes them; None for others."""
    inside = len(file.parts) > 3 and file.parts[-3] == "features"
    return file.parents[2].as_posix() if inside else None


def finished_runs(results: Path) -> list[Path]:
    """Folders of the training runs below a results folder that left their weights."""
    return [run for run in runs(results) if any((run / name).exists() for name in TRAINED)]


def runs(results: Path) -> list[Path]:
    """Folders of all training runs below a results folder that have settings, in order."""
    patterns = ("pretrain/*/*/config.json", "finetune/*/*/config.json")
    prefixes = ("", "variants/*/*/")
    found = {
        path.parent
        for prefix in prefixes
        for pattern in patterns
        for path in results.glob(f"{prefix}{pattern}")
    }
    return sorted(found)
