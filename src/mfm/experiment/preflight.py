"""Checks of a whole experiment, before any job runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from mfm.data.settings import MANIFEST, DatasetJob, OtherImagesJob
from mfm.data.sources.named import check_owner, check_source
from mfm.errors import UserError, all_of
from mfm.evaluation import also_evaluations
from mfm.evaluation.job import EvaluateJob
from mfm.experiment.arms import FromWeights
from mfm.experiment.demands import (
    check_counts,
    check_sizes,
    count_faults,
    demands_of,
    variant_names,
)
from mfm.experiment.layout import Layout, dataset_folder, other_images_folder
from mfm.experiment.layout import runs as runs_below
from mfm.experiment.places import check_place
from mfm.experiment.resolve import (
    dataset_job,
    finetune_job,
    other_images_job,
    pretrain_job,
    pretrainings,
    used_pretrainings,
)
from mfm.experiment.results_folder import check_folder
from mfm.experiment.settings import Experiment
from mfm.experiment.variants import Runs
from mfm.files import records
from mfm.models.facts import check_weights, facts_of
from mfm.models.settings import Model
from mfm.models.sources import source_of
from mfm.objectives import Pretext, Pretraining
from mfm.objectives.supervised.settings import Finetuning
from mfm.processes import devices, gpus
from mfm.settings.section import differing_keys, dumps, load_json

# Keys that the settings of a run had in versions before this one.
_EARLIER = ("init", "on_bad_image")


def check(runs: Runs, *, links_again: bool = False, forces: bool = False) -> None:
    """Find what would stop a job later.

    The job that links a dataset knows how many of its files are images, and checks the demands on
    their numbers again.

    Raises UserError for a dataset or weights that don't exist, for too few images, and, unless
    jobs are forced, for files of finished ones that were changed since.
    """
    experiment = runs.experiment
    dataset, folder = experiment.dataset, dataset_folder(experiment.dataset.name)
    all_of(
        [
            lambda: check_folder(experiment.results, dataset),
            lambda: _check_dataset(runs, folder, links_again=links_again),
            lambda: check_owner(dataset, folder),
            *_other_images_checks(experiment, folder),
            lambda: _check_results(experiment),
            *([] if forces else _check_finished(runs, folder)),
            lambda: _check_tasks(runs),
            lambda: _check_weights(experiment),
        ]
    )


def remarks(runs: Runs, *, here: bool = False) -> list[str]:
    """What to know before anything is trained that stops nothing, a line each.

    `here`: the jobs run on this machine.

    Builds the networks, the first time: not where all trainings are done.

    Raises UserError for image sizes that a network's stride doesn't divide, for a task or weights
    that don't fit it, and for a device that isn't here.
    """
    experiment = runs.experiment
    found = _unused_seeds(experiment) + _linked_otherwise(experiment)
    found += _others_linked_otherwise(experiment)
    trainings = [
        (runs.layout.pretraining(name, seed, folder=folder), runs.at(folder).pretrain[name].ranks)
        for folder, name, seed in runs.pretrainings
    ]
    trainings += [
        (runs.layout.finetuning(arm, seed, folder=folder), runs.at(folder).finetune.ranks)
        for folder, arm, seed in runs.finetunings
    ]
    ranks = [ranks for files, ranks in trainings if not Path(files.weights).exists()]
    if ranks:
        if here:
            there = bool(gpus.visible_gpus())
            devices.kind(experiment.device, cuda=there, mps=sys.platform == "darwin")
            found += _lacks_gpus(max(ranks))
        found += check_sizes(demands_of(runs))
        all_of([*_model_checks(runs), *_weight_checks(runs, found)])
    return list(dict.fromkeys(found))


def _lacks_gpus(ranks: int) -> list[str]:
    """What a training's launcher would say, when the jobs before it are done."""
    try:
        gpus.check(ranks)
    except UserError as error:
        return [str(error)]
    return []


def _weight_checks(runs: Runs, remarks: list[str]) -> Iterator[Callable[[], None]]:
    """A check for all initial weights of the experiment and its variants, by network and size.

    What is no fault is added to the remarks.
    """
    for folder in runs.folders:
        experiment = runs.at(folder)
        pretrained: dict[str, Pretraining | Finetuning] = {
            f"pretrain.{name}.weights": each for name, each in used_pretrainings(experiment).items()
        }
        for key, weights in _named_weights(experiment).items():
            training = pretrained.get(key, experiment.finetune)
            yield partial(_check_loads, key, weights, experiment, training, remarks)


def _check_loads(
    key: str,
    weights: str,
    experiment: Experiment,
    training: Pretraining | Finetuning,
    remarks: list[str],
) -> None:
    try:
        unfitted = check_weights(
            weights,
            experiment.model,
            size=training.crop.size or experiment.dataset.image_size,
            normalisation=training.normalisation(),
        )
    except UserError as error:
        raise UserError(f"{key}: {error}") from None
    remarks += [
        f"{key}: {each}; set finetune.mean and finetune.std to theirs, unless the recipe means it"
        for each in unfitted
    ]


def _unused_seeds(experiment: Experiment) -> list[str]:
    """Pretrainings that are not run, because no finetuning's seed leads to them."""
    used = pretrainings(experiment)
    lines = []
    for name, training in used_pretrainings(experiment).items():
        unused = [seed for seed in training.seeds if (name, seed) not in used]
        if unused:
            lines.append(
                f"pretrain.{name}.seeds: no finetuning starts from {unused}, because 'seeds' lists "
                "too few; list more there, or fewer here"
            )
    return lines


def _linked_otherwise(experiment: Experiment) -> list[str]:
    """What linking the dataset again with other settings does to finished runs."""
    folder = dataset_folder(experiment.dataset.name)
    if not (folder / "manifest.parquet").exists() or not (folder / "config.json").exists():
        return []
    there = load_json(DatasetJob, folder / "config.json")
    keys = differing_keys(
        dataset_job(experiment).model_dump(mode="json"), there.model_dump(mode="json")
    )
    if not keys:
        return []
    key = keys[0].removesuffix("_sha256")  # of what a file says
    return [
        f"{folder} was linked with another dataset.{key}: it is linked again, and what read a "
        "split whose images are others then is run again; give this experiment a dataset.name of "
        "its own to keep it"
    ]


def _others_linked_otherwise(experiment: Experiment) -> list[str]:
    """Names below evaluate.also that stood for other folders until now."""
    lines = []
    for evaluation, name in also_evaluations(experiment.evaluate).items():
        config = other_images_folder(experiment.dataset.name, evaluation) / "config.json"
        ours = other_images_job(experiment, evaluation).images
        there = load_json(OtherImagesJob, config).images if config.exists() else ours
        if there != ours:
            lines.append(
                f"evaluate.also.{name}: until now these were the images of {there.folder}; the "
                "evaluations on them are made again. Take another name to keep both"
            )
    return lines


def _named_weights(experiment: Experiment) -> dict[str, str]:
    """Initial weights that are not a pretraining's, by their keys."""
    named = {
        f"pretrain.{name}.weights": training.weights
        for name, training in used_pretrainings(experiment).items()
    } | {
        f"arms.{name}.weights": arm.weights
        for name, arm in experiment.arms.items()
        if isinstance(arm, FromWeights)
    }
    return {key: weights for key, weights in named.items() if weights is not None}


def _check_weights(experiment: Experiment) -> None:
    for key, weights in _named_weights(experiment).items():
        try:
            source_of(weights).check(weights)
        except UserError as error:
            raise UserError(f"{key}: {error}") from None


def _check_dataset(runs: Runs, folder: Path, *, links_again: bool) -> None:
    """Check where the images come from and, if there are some, their numbers."""
    check_source(runs.experiment.dataset, linked=folder.exists())
    _check_counts(runs, folder, links_again=links_again)


def _check_counts(runs: Runs, folder: Path, *, links_again: bool) -> None:
    """Check the numbers of images, as far as they are known.

    Of a linked dataset they are; otherwise names tell how many there are at most, and what else is
    wrong with them.
    """
    demands, dataset = demands_of(runs), runs.experiment.dataset
    files = [folder / name for name in ("config.json", "summary.json")]
    linked = all(file.exists() for file in files)
    if (
        linked
        and not links_again
        and load_json(DatasetJob, files[0]) == dataset_job(runs.experiment)
    ):
        try:
            check_counts(demands, json.loads(files[1].read_text(encoding="utf-8")))
        except ValueError:
            raise UserError(
                f"{files[1]} is damaged; snakemake --cores all --force {files[1]} makes it again"
            ) from None
        except UserError as error:
            raise UserError(
                f"{error} (if you have changed the images: snakemake --forcerun link_dataset)"
            ) from None
        return
    from mfm.data.linking.link import foresee  # takes half a second, and is seldom needed

    foresee(dataset, demands=partial(count_faults, demands))


def _other_images_checks(experiment: Experiment, folder: Path) -> Iterator[Callable[[], None]]:
    """A check of each folder of other images, as far as names tell."""
    if not experiment.evaluate.also:
        return
    # numpy and Pillow take their time, of those who ask alone
    from mfm.data.linking.other import check as check_other
    from mfm.data.linking.other import known_classes

    classes = known_classes(experiment.dataset, folder)
    for name, images in experiment.evaluate.also.items():
        yield partial(_told, partial(check_other, images, classes), f"evaluate.also.{name}: ", "")


def _check_finished(runs: Runs, data: Path) -> Iterator[Callable[[], None]]:
    """A check of each finished job whose files would be removed if it were run again."""
    yield partial(records.check_unchanged, records.record_of(data / MANIFEST))
    layout = runs.layout
    for folder, name, seed in runs.pretrainings:
        job = pretrain_job(runs.at(folder), name, seed)
        record = layout.pretraining(name, seed, folder=folder).record
        yield partial(records.check_unchanged, Path(record), config=f"{dumps(job)}\n")
        yield partial(check_place, Path(layout.pretraining(name, seed, folder=folder).weights))
    for folder, arm, seed in runs.finetunings:
        finetuning = finetune_job(runs.at(folder), arm, seed)
        record = layout.finetuning(arm, seed, folder=folder).record
        yield partial(records.check_unchanged, Path(record), config=f"{dumps(finetuning)}\n")
        yield partial(check_place, Path(layout.finetuning(arm, seed, folder=folder).weights))
    for folder, arm, seed in runs.evaluations():
        record = layout.evaluation(arm, seed, folder=folder).record
        yield partial(records.check_unchanged, Path(record), small=True)


def _check_tasks(runs: Runs) -> None:
    """Refuse image sizes that a pretraining's task has nothing to do with."""
    all_of(_task_checks(runs, lambda task, model, size: task.check_size(size)))


def _model_checks(runs: Runs) -> Iterator[Callable[[], None]]:
    """A check of each pretraining's task against its network."""
    return _task_checks(runs, lambda task, model, size: task.check_model(model=model, size=size))


def _task_checks(
    runs: Runs, ask: Callable[[Pretext, Model, int], None]
) -> Iterator[Callable[[], None]]:
    """A check by `ask` of each pretraining of the experiment and its variants."""
    names = variant_names(runs)
    for folder in runs.folders:
        experiment = runs.at(folder)
        source = f" (with {names[folder]})" if folder in names else ""
        for name, task in used_pretrainings(experiment).items():
            size = task.crop.size or experiment.dataset.image_size
            asked = partial(ask, task, experiment.model, size)
            yield partial(_told, asked, f"pretrain.{name}.", source)


def _told(check: Callable[[], object], key: str, source: str) -> None:
    try:
        check()
    except UserError as error:
        raise UserError(f"{key}{error}{source}") from None


def _check_results(experiment: Experiment) -> None:
    """Refuse a results folder with runs on other images, of another network, of an earlier version.

    The workflow would run everything there again, over results that may have cost weeks.
    """
    for run in runs_below(Path(experiment.results)):
        text = (run / "config.json").read_text(encoding="utf-8")
        if any(f'"{key}":' in text for key in _EARLIER):
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
        facts_of(experiment.model)  # a network that can't be made is told first
        raise UserError(
            f"results: '{experiment.results}' holds {theirs[1]} on {theirs[0]}, and this is "
            f"{ours[1]} on {ours[0]}: set results to another folder"
        )
