"""Checks of a whole experiment, before any job runs."""

from __future__ import annotations

import json
from pathlib import Path

from mfm.data.settings import Dataset
from mfm.data.sources import check_owner, check_source
from mfm.errors import UserError
from mfm.evaluation.job import EvaluateJob
from mfm.experiment.arms import FromWeights
from mfm.experiment.demands import check_counts, check_sizes, demands_of
from mfm.experiment.layout import Layout, dataset_folder
from mfm.experiment.layout import runs as runs_below
from mfm.experiment.resolve import dataset_job, pretrainings, used_pretrainings
from mfm.experiment.settings import Experiment
from mfm.experiment.variants import Runs
from mfm.models.sources import source_of
from mfm.settings.section import differing_keys, load_json


def check(runs: Runs, *, links_again: bool = False) -> None:
    """Find what would stop a job later.

    The demands on the numbers of images are checked here where the dataset is linked already and
    will not be linked again; otherwise the job that links it checks them.

    Raises UserError for a dataset or weights that don't exist, and for too few images.
    """
    experiment = runs.experiment
    check_source(experiment.dataset)
    folder = dataset_folder(experiment.dataset.name)
    check_owner(experiment.dataset, folder)
    if not links_again:
        _check_linked(runs, folder)
    _check_results(experiment)
    for name, training in used_pretrainings(experiment).items():
        if training.weights is not None:
            _check_file(training.weights, f"pretrain.{name}.weights")
    for name, arm in experiment.arms.items():
        if isinstance(arm, FromWeights) and arm.weights is not None:
            file = source_of(arm.weights).file(arm.weights)
            if file is not None:
                _check_file(file, f"arms.{name}.weights")


def remarks(runs: Runs) -> list[str]:
    """What to know before anything is trained that stops nothing, a line each.

    Builds the networks, the first time: not where all trainings are done.

    Raises UserError for image sizes that a network's stride doesn't divide.
    """
    experiment = runs.experiment
    found = _unused_seeds(experiment) + _linked_otherwise(experiment)
    trainings = [
        runs.layout.pretraining(name, seed, folder=folder)
        for folder, name, seed in runs.pretrainings
    ]
    trainings += [
        runs.layout.finetuning(arm, seed, folder=folder) for folder, arm, seed in runs.finetunings
    ]
    if not all(Path(training.weights).exists() for training in trainings):
        found += check_sizes(demands_of(runs))
    return found


def _unused_seeds(experiment: Experiment) -> list[str]:
    """Pretrainings that are not run, because no finetuning's seed leads to them."""
    used = pretrainings(experiment)
    lines = []
    for name, training in used_pretrainings(experiment).items():
        unused = [seed for seed in training.seeds if (name, seed) not in used]
        if unused:
            lines.append(f"pretrain.{name}.seeds: no finetuning starts from {unused}; add 'seeds'")
    return lines


def _linked_otherwise(experiment: Experiment) -> list[str]:
    """What linking the dataset again with other settings does to finished runs."""
    folder = dataset_folder(experiment.dataset.name)
    if not (folder / "manifest.parquet").exists() or not (folder / "config.json").exists():
        return []
    there = load_json(Dataset, folder / "config.json")
    keys = differing_keys(
        dataset_job(experiment).model_dump(mode="json"), there.model_dump(mode="json")
    )
    if not keys:
        return []
    return [
        f"{folder} was linked with another dataset.{keys[0]}: it is linked again, and what was "
        "trained on it is trained again; give this experiment a dataset.name of its own to keep it"
    ]


def _check_file(weights: str, key: str) -> None:
    path = Path(weights).expanduser()
    if not path.is_file():
        raise UserError(f"{key}: there is no file {path}")


def _check_linked(runs: Runs, folder: Path) -> None:
    files = [folder / name for name in ("config.json", "summary.json")]
    if not all(file.exists() for file in files):
        return
    if load_json(Dataset, files[0]) == dataset_job(runs.experiment):
        try:
            check_counts(demands_of(runs), json.loads(files[1].read_text(encoding="utf-8")))
        except UserError as error:
            raise UserError(
                f"{error} (if you have changed the images: snakemake --forcerun link_dataset)"
            ) from None


def _check_results(experiment: Experiment) -> None:
    """Refuse a results folder with runs on other images, of another network, of an earlier version.

    The workflow would run everything there again, over results that may have cost weeks.
    """
    for run in runs_below(Path(experiment.results)):
        # What an arm was called before this version: a key of a finetuning's settings.
        if '"init":' in (run / "config.json").read_text(encoding="utf-8"):
            raise UserError(
                f"results: '{experiment.results}' holds runs of an earlier version of this package "
                f"({run}): set results to another folder"
            )
    path = Path(Layout(experiment.results).evaluation_config())
    if not path.exists():
        return
    there = load_json(EvaluateJob, path)
    ours = (experiment.dataset.name, experiment.model.title)
    theirs = (there.dataset.name, there.model.title)
    if ours != theirs:
        raise UserError(
            f"results: '{experiment.results}' holds {theirs[1]} on {theirs[0]}, and this is "
            f"{ours[1]} on {ours[0]}: set results to another folder"
        )
