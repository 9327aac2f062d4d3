"""Resolution of an experiment into its jobs: which part of the settings determines which."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from mfm.data.settings import OTHER_SPLIT, Dataset, DatasetJob, OtherImagesJob, Seen
from mfm.evaluation import Evaluation, also, also_evaluations, further_evaluations
from mfm.evaluation.frozen.settings import (
    FLOORS,
    PIXELS,
    RANDOM,
    Amount,
    FeaturesJob,
    ProbeJob,
)
from mfm.evaluation.job import EvaluateJob
from mfm.evaluation.settings import Classification
from mfm.experiment.arms import Arm, FromWeights, LongerScratch
from mfm.experiment.equal_cost import MadeUpFor
from mfm.experiment.jobs import (
    DatasetReportJob,
    FinetuneJob,
    PretrainJob,
    split_of,
)
from mfm.experiment.settings import Experiment
from mfm.files.records import sha256
from mfm.objectives import Pretraining
from mfm.settings.section import config_hash


def dataset_job(experiment: Experiment) -> DatasetJob:
    """What determines the linked dataset: the images as they are, so that all sizes share them.

    And what a file of labels says: when that has changed, the dataset is linked again.
    """
    own = {
        "image_size": Dataset.model_fields["image_size"].default,
        "labels_sha256": _digest(experiment.dataset.labels),
    }
    return DatasetJob(**(dict(experiment.dataset) | own))


def _digest(labels: str | None) -> str | None:
    """Of a file of labels; None where it is missing, which is told of elsewhere."""
    file = Path(labels or "").expanduser()
    if not file.is_file():
        return None
    status = file.stat()
    return _digest_of(file, status.st_mtime_ns, status.st_size)


@cache
def _digest_of(file: Path, *_: int) -> str:
    return sha256(file)


def other_images_job(experiment: Experiment, evaluation: str) -> OtherImagesJob:
    """What determines the other images that an evaluation is on."""
    name = also_evaluations(experiment.evaluate)[evaluation]
    return OtherImagesJob(
        name=name,
        images=experiment.evaluate.also[name],
        on_bad_image=experiment.dataset.on_bad_image,
    )


def dataset_report_job(experiment: Experiment) -> DatasetReportJob:
    """What determines the dataset's report."""
    mean, std = experiment.finetune.normalisation()
    return DatasetReportJob(
        dataset=experiment.dataset,
        pretrainings=_without_seeds(used_pretrainings(experiment)),
        mean=mean,
        std=std,
    )


def pretrain_job(experiment: Experiment, name: str, seed: int) -> PretrainJob:
    """What determines a pretraining."""
    training = experiment.pretrain[name]
    return PretrainJob(
        name=name,
        dataset=_seen(experiment),
        split=split_of(training, experiment.dataset),
        loader=experiment.loader,
        model=experiment.model,
        training=training.model_copy(update={"seeds": [seed]}),
    )


def finetune_job(experiment: Experiment, arm: str, seed: int) -> FinetuneJob:
    """What determines a finetuning, besides the files it reads."""
    settings = experiment.arms[arm]
    return FinetuneJob(
        arm=arm,
        # As the run sees it: neither its other seeds nor why it is longer change it.
        source="scratch" if isinstance(settings, LongerScratch) else without_seeds(settings),
        seed=seed,
        dataset=_seen(experiment),
        curve=experiment.dataset.curve,
        loader=experiment.loader,
        model=experiment.model,
        training=experiment.finetune,
        makes_up_for=_made_up_for(experiment, arm),
    )


def evaluate_job(experiment: Experiment, name: str = "evaluate") -> EvaluateJob:
    """What determines an evaluation of that name, besides the weights it reads."""
    mean, std = experiment.finetune.normalisation()
    settings = {key: getattr(experiment.evaluate, key) for key in Classification.model_fields}
    further = further_evaluations(experiment.evaluate).get(name)
    if name in also_evaluations(experiment.evaluate):
        further = also.Settings()
        settings["split"] = OTHER_SPLIT
    return EvaluateJob(
        name=name,
        dataset=_seen(experiment),
        loader=experiment.loader,
        model=experiment.model,
        mean=mean,
        std=std,
        evaluation=Classification(**settings),
        further=None if further is None else further.model_dump(mode="json"),
    )


def _seen(experiment: Experiment) -> Seen:
    dataset = experiment.dataset
    return Seen(name=dataset.name, image_size=dataset.image_size)


def feature_starts(experiment: Experiment, features: str) -> dict[int, str]:
    """By seed, the name of the file of the features of one kind: seeds may share their weights."""
    if features == RANDOM:
        return {seed: f"seed{seed}" for seed in experiment.seeds}
    seeds = experiment.seeds if features == PIXELS else seeds_of(experiment, features)
    numbers = {
        seed: None if features == PIXELS else pretraining_seed(experiment, features, seed)
        for seed in seeds
    }
    return {seed: "all" if of is None else f"seed{of}" for seed, of in numbers.items()}


def features_job(experiment: Experiment, features: str, start: str) -> FeaturesJob:
    """What determines the features of one set of weights, besides these."""
    assert experiment.frozen is not None
    most = experiment.frozen.extract_per_class
    evaluation = evaluate_job(experiment)
    return FeaturesJob(
        features=features,
        seed=int(start.removeprefix("seed")) if features == RANDOM else None,
        per_class=most,
        seeds=[] if most is None else experiment.seeds,
        **evaluation.model_dump(exclude={"stage", "name", "further", "probabilities"}),
    )


def probe_job(experiment: Experiment, features: str) -> ProbeJob:
    """What determines what is read from one kind of features, besides their files."""
    assert experiment.frozen is not None
    return ProbeJob(
        features=features,
        seeds=list(feature_starts(experiment, features)),
        amounts=probed_amounts(experiment),
        split=experiment.evaluate.split,
        knn=experiment.frozen.knn,
        logistic_up_to=experiment.frozen.logistic_up_to,
    )


def own_amount(experiment: Experiment) -> Amount:
    """The finetuning's amount of labelled images."""
    its = experiment.finetune
    return Amount(images_per_class=its.images_per_class, fraction=its.fraction)


def probed_amounts(experiment: Experiment) -> list[Amount]:
    """The amounts of labelled images that are read: the finetuning's, which floors need, is one."""
    if experiment.frozen is None:
        return []
    own = own_amount(experiment)
    asked = [Amount(images_per_class=count) for count in experiment.frozen.images_per_class]
    return asked if own in asked else [*asked, own]


def frozen_features(experiment: Experiment) -> list[str]:
    """What frozen features are of: pixels, random weights, each arm that starts from weights."""
    if experiment.frozen is None:
        return []
    return [*FLOORS, *(arm for arm, its in experiment.arms.items() if isinstance(its, FromWeights))]


def evaluated_names(experiment: Experiment) -> list[str]:
    """The evaluations that are made of every finetuned model: 'evaluate', the table's, first."""
    evaluate = experiment.evaluate
    return ["evaluate", *further_evaluations(evaluate), *also_evaluations(evaluate)]


def further_pages(experiment: Experiment) -> dict[str, str]:
    """The page of each further evaluation that is asked for: its files' name, and whose it is."""
    further = further_evaluations(experiment.evaluate)
    return {settings.page or name: name for name, settings in further.items()}


def further_figures(experiment: Experiment) -> dict[str, str]:
    """Their figures: the name of each one's files, and its page."""
    further = further_evaluations(experiment.evaluate)
    return {
        figure: settings.page or name
        for name, settings in further.items()
        for figure in settings.figures()
    }


def finetunings(experiment: Experiment) -> list[tuple[str, int]]:
    """Every finetuning run of the experiment: (arm, seed)."""
    return [(name, seed) for name in experiment.arms for seed in seeds_of(experiment, name)]


def seeds_of(experiment: Experiment, arm: str) -> list[int]:
    """The seeds of an arm."""
    settings = experiment.arms[arm]
    return (settings != "scratch" and settings.seeds) or experiment.seeds


def pretraining_of(experiment: Experiment, arm: str) -> str | None:
    """The name of the pretraining that an arm starts from."""
    settings = experiment.arms[arm]
    return settings.pretrain if isinstance(settings, FromWeights) else None


def pretraining_seed(experiment: Experiment, arm: str, seed: int) -> int | None:
    """The seed of the pretraining that an arm's finetuning of that seed starts from."""
    name = pretraining_of(experiment, arm)
    if name is None:
        return None
    seeds = experiment.pretrain[name].seeds
    return seeds[seed % len(seeds)]


def pretrainings(experiment: Experiment) -> list[tuple[str, int]]:
    """Every pretraining run that a finetuning starts from: (name, seed)."""
    found = set()
    for arm, seed in finetunings(experiment):
        name, start = pretraining_of(experiment, arm), pretraining_seed(experiment, arm, seed)
        if name is not None and start is not None:
            found.add((name, start))
    return sorted(found, key=lambda run: (list(experiment.pretrain).index(run[0]), run[1]))


def used_pretrainings(experiment: Experiment) -> dict[str, Pretraining]:
    """Pretrainings that at least one arm uses, in the order of the configuration."""
    used = {pretraining_of(experiment, arm) for arm in experiment.arms}
    return {name: training for name, training in experiment.pretrain.items() if name in used}


def pictured_pretrainings(experiment: Experiment) -> list[tuple[str, int]]:
    """The first run of each used pretraining that pictures are drawn of: (name, seed)."""
    first = dict(reversed(pretrainings(experiment)))
    used = used_pretrainings(experiment)
    return [(name, first[name]) for name, each in used.items() if each.pictured]


def compared_pretrainings(experiment: Experiment) -> list[tuple[str, int]]:
    """Runs whose loss is compared with that of a constant prediction: (name, seed)."""
    each = experiment.pretrain
    return [
        (name, seed)
        for name, seed in pretrainings(experiment)
        if each[name].pictured or each[name].constant_loss is not None
    ]


def longer_arms(experiment: Experiment) -> dict[str, str]:
    """Arms from scratch that are trained for as long as another arm: {arm: the other}."""
    return {
        name: arm.as_long_as
        for name, arm in experiment.arms.items()
        if isinstance(arm, LongerScratch)
    }


def asked(experiment: Experiment) -> dict[str, str | int]:
    """What the question declares: arms, metric, numbers of runs and of pretrainings."""
    question = experiment.question
    assert question is not None
    starts = {
        pretraining_seed(experiment, question.arm, n) for n in seeds_of(experiment, question.arm)
    }
    return {
        "arm": question.arm,
        "baseline": question.baseline,
        "metric": question.metric,
        "runs": question.runs or len(seeds_of(experiment, question.arm)),
        "pretrainings": len(starts - {None}),
    }


def experiment_hash(experiment: Experiment) -> str:
    """Hash of what its accuracies depend on: seeds, names of folders and what is asked are not."""
    alone = experiment.model_copy(
        update={
            "results": "results",
            "device": "auto",
            "seeds": [0],
            "baseline": min(experiment.arms),
            "question": None,
            "frozen": None,
            "variants": {},
            "tuning": None,
            "arms": {name: without_seeds(arm) for name, arm in experiment.arms.items()},
            "pretrain": _without_seeds(used_pretrainings(experiment)),
            "evaluate": Evaluation(**evaluate_job(experiment).evaluation.model_dump()),
        }
    )
    return config_hash(alone)


def _without_seeds(trainings: Mapping[str, Pretraining]) -> dict[str, Pretraining]:
    """The recipes alone."""
    return {name: each.model_copy(update={"seeds": [0]}) for name, each in trainings.items()}


def _made_up_for(experiment: Experiment, arm: str) -> MadeUpFor | None:
    other = longer_arms(experiment).get(arm)
    if other is None:
        return None
    name = pretraining_of(experiment, other)
    assert name is not None
    job = pretrain_job(experiment, name, experiment.pretrain[name].seeds[0])
    return MadeUpFor(
        name=name,
        split=job.split,
        batch=job.training.batch,
        epochs=job.training.epochs * job.training.views,
        size=job.size,
    )


def without_seeds(arm: Arm) -> Arm:
    """The arm with all of the experiment's seeds."""
    return arm if arm == "scratch" else arm.model_copy(update={"seeds": None})
