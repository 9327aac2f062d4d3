"""What the workflow asks of an experiment: its jobs' own configurations and files.

This module knows the layout of the results folder and nothing of Snakemake.
"""

from __future__ import annotations

import json
from pathlib import Path

from mfm import config
from mfm.check import check_counts
from mfm.data.sources import check_owner, check_source
from mfm.errors import UserError


def check(experiment: config.Experiment, *, links_again: bool = False) -> None:
    """Find, before any job runs, what would stop one later.

    The demands on the numbers of images are checked here where the dataset is linked already and
    will not be linked again; otherwise `mfm.data.link` checks them, in the first job.

    Raises UserError for a dataset or weights that don't exist, and for too few images.
    """
    check_source(experiment.dataset)
    folder = Path("data") / experiment.dataset.name
    check_owner(experiment.dataset, folder)
    if not links_again:
        _check_linked(experiment, folder)
    _check_results(experiment)
    for name in used_pretrainings(experiment):
        for file in pretrain_files(experiment, name):
            if not Path(file).expanduser().is_file():
                raise UserError(f"pretrain.{name}.weights: there is no file {file}")
    for name, init in experiment.initialisations.items():
        if isinstance(init, config.Initialisation) and init.weights is not None:
            path = Path(init.weights).expanduser()
            if config.is_path(init.weights) and not path.is_file():
                raise UserError(f"initialisations.{name}.weights: there is no file {path}")


def _check_linked(experiment: config.Experiment, folder: Path) -> None:
    files = [folder / name for name in ("config.json", "summary.json")]
    if not all(file.exists() for file in files):
        return
    if config.load_json(config.Dataset, files[0]) == experiment.dataset:
        try:
            check_counts(demands(experiment), json.loads(files[1].read_text()))
        except UserError as error:
            raise UserError(
                f"{error} (if you have changed the images: snakemake --forcerun link_dataset)"
            ) from None


def _check_results(experiment: config.Experiment) -> None:
    """Refuse a results folder with finished runs on other images or of another network.

    The workflow would run everything there again, over results that may have cost weeks.
    """
    path = Path(experiment.results) / "evaluate" / "config.json"
    if not path.exists():
        return
    there = config.load_json(config.EvaluateRun, path)
    ours = (experiment.dataset.name, experiment.model.backbone)
    theirs = (there.dataset.name, there.model.backbone)
    if ours != theirs:
        raise UserError(
            f"results: '{experiment.results}' holds {theirs[1]} on {theirs[0]}, and this is "
            f"{ours[1]} on {ours[0]}: set results to another folder"
        )


def resolve(experiment: config.Experiment, stage: str, **wildcards: str) -> config.Section:
    """The part of the experiment that determines one job.

    For an arm that is trained as long as another one: with the epochs of the other arms.
    """
    dataset, loader, model = experiment.dataset, experiment.loader, experiment.model
    if stage == "dataset":
        # The images are linked as they are: experiments at several sizes share them.
        unsized = config.Dataset.model_fields["image_size"].default
        return dataset.model_copy(update={"image_size": unsized})
    if stage == "pretrain":
        name = wildcards["pretrain"]
        return config.PretrainRun(
            name=name,
            dataset=dataset,
            loader=loader,
            model=model,
            training=experiment.pretrain[name],
        )
    if stage == "finetune":
        init = wildcards["init"]
        return config.FinetuneRun(
            init=init,
            source=_without_seeds(experiment.initialisations[init]),
            seed=int(wildcards["seed"]),
            dataset=dataset,
            loader=loader,
            model=model,
            training=amounts(experiment)[wildcards.get("labels", "")],
        )
    if stage == "dataset_report":
        return config.DatasetReportRun(
            dataset=dataset,
            recipes=_recipes(experiment),
            mean=experiment.finetune.mean,
            std=experiment.finetune.std,
        )
    assert stage == "evaluate", stage
    evaluation = experiment.evaluate
    if "resize" in wildcards:
        evaluation = evaluation.model_copy(update={"resize": int(wildcards["resize"])})
    return config.EvaluateRun(
        dataset=dataset,
        loader=loader,
        model=model,
        mean=experiment.finetune.mean,
        std=experiment.finetune.std,
        evaluation=evaluation,
    )


def longer_arms(experiment: config.Experiment) -> dict[str, str]:
    """Arms from scratch that are trained for as long as another arm: {arm: the other}."""
    return {
        name: init.as_long_as
        for name, init in experiment.initialisations.items()
        if isinstance(init, config.LongerScratch)
    }


def resolve_longer(experiment: config.Experiment, **wildcards: str) -> config.LongerRun:
    """What determines a run of such an arm, besides the numbers of images (see `mfm.longer`)."""
    run = resolve(experiment, "finetune", **wildcards)
    assert isinstance(run, config.FinetuneRun)
    name = pretrain_name(experiment, longer_arms(experiment)[wildcards["init"]])
    training = experiment.pretrain[name]
    return config.LongerRun(
        run=run,
        pretraining=pretrain_demand(name, training, experiment.dataset),
        epochs=training.epochs,
        size=training.crop.size or experiment.dataset.image_size,
    )


def demands(experiment: config.Experiment) -> config.Demands:
    """What the experiment's trainings ask of the dataset and the backbone."""
    finetunings = [finetune_demand("finetune", experiment.finetune)]
    for number, amount in enumerate(experiment.label_efficiency):
        key = f"label_efficiency.{number}"
        demand = finetune_demand(key, amount.applied(experiment.finetune))
        if amount.batch is None:
            demand = demand.model_copy(update={"batch_key": "finetune.batch"})
        finetunings.append(demand)
    return config.Demands(
        model=experiment.model,
        sizes=_sizes(experiment),
        trainings=[
            *(
                pretrain_demand(name, experiment.pretrain[name], experiment.dataset)
                for name in used_pretrainings(experiment)
            ),
            *finetunings,
        ],
    )


def _sizes(experiment: config.Experiment) -> dict[str, int]:
    """Sides in pixels of the images that the network sees, by the key that sets them."""
    trainings: list[tuple[str, config.Training]] = [
        *(
            (f"pretrain.{name}", experiment.pretrain[name])
            for name in used_pretrainings(experiment)
        ),
        ("finetune", experiment.finetune),
    ]
    sizes = {
        f"{key}.crop.size" if training.crop.size else "dataset.image_size": (
            training.crop.size or experiment.dataset.image_size
        )
        for key, training in trainings
    }
    return sizes | {"evaluate.crop": experiment.evaluate.crop}


def finetune_demand(key: str, training: config.Finetuning) -> config.Demand:
    """What one finetuning asks of the dataset."""
    return config.Demand(
        key=key,
        split="train",
        batch=training.batch,
        batch_key=f"{key}.batch",
        images_per_class=training.images_per_class,
        fraction=training.fraction,
    )


def pretrain_demand(
    name: str, training: config.Pretraining, dataset: config.Dataset
) -> config.Demand:
    """What one pretraining asks of the dataset and the backbone."""
    demand = config.Demand(
        key=f"pretrain.{name}",
        split=config.pretrain_split(training, dataset),
        batch=training.batch,
        batch_key=f"pretrain.{name}.batch",
        images_per_class=None,
        fraction=None,
    )
    if isinstance(training, config.SupervisedPretraining):
        return demand
    own = training.crop.size
    size_key = f"pretrain.{name}.crop.size" if own else "dataset.image_size"
    return demand.model_copy(update={"size": own or dataset.image_size, "size_key": size_key})


def _recipes(experiment: config.Experiment) -> list[config.Recipe]:
    """The MFM pretrainings in use, with their image sizes and radii."""
    found = []
    for name in used_pretrainings(experiment):
        training = experiment.pretrain[name]
        if isinstance(training, config.MfmPretraining):
            size = training.crop.size or experiment.dataset.image_size
            radius = training.radius or config.default_radius(size)
            found.append(config.Recipe(name=name, recipe=training.recipe, radius=radius, size=size))
    return found


def _without_seeds(arm: config.Arm) -> config.Arm:
    """The arm as one of its runs sees it: another number of seeds does not change a run."""
    if isinstance(arm, config.Initialisation):
        return arm.model_copy(update={"seeds": None})
    return "scratch"


def amounts(experiment: config.Experiment) -> dict[str, config.Finetuning]:
    """The finetuning recipe by the folder, below the results, of its runs.

    The table's own runs, in no folder of their own, come first; of the amounts of labelled images
    and the losses of the ablation, those with the same recipe share them.
    """
    found = {"": experiment.finetune}
    for amount in experiment.label_efficiency:
        folder = amount_folder(experiment, amount)
        found[folder] = amount.applied(experiment.finetune)
    for loss in experiment.ablations.loss:
        if loss != experiment.finetune.loss:
            # The threshold is of BCE's targets.
            recipe = experiment.finetune.model_copy(update={"loss": loss, "bce_threshold": None})
            found[f"ablation_loss/{loss}/"] = recipe
    return found


def amount_folder(experiment: config.Experiment, amount: config.Amount) -> str:
    """Where the runs of an amount of labelled images are, below the results: '' or with a '/'."""
    same = amount.applied(experiment.finetune) == experiment.finetune
    return "" if same else f"label_efficiency/{amount.name}/"


def evaluations(experiment: config.Experiment, amount: config.Amount) -> list[str]:
    """Result rows of an amount of labelled images, of every arm and seed."""
    folder = f"{experiment.results.rstrip('/')}/{amount_folder(experiment, amount)}evaluate"
    return [f"{folder}/{init}/seed{seed}.csv" for init, seed in finetunings(experiment)]


def finetunings(experiment: config.Experiment) -> list[tuple[str, int]]:
    """Every finetuning run of the experiment: (arm, seed)."""
    return [
        (name, seed)
        for name, init in experiment.initialisations.items()
        for seed in (init != "scratch" and init.seeds) or experiment.seeds
    ]


def pretrain_name(experiment: config.Experiment, init: str) -> str:
    """The pretraining an arm uses, or '-'."""
    source = experiment.initialisations[init]
    if isinstance(source, config.Initialisation) and source.pretrain is not None:
        return source.pretrain
    return "-"


def used_pretrainings(experiment: config.Experiment) -> list[str]:
    """Pretrainings that at least one arm uses, in the order of the configuration."""
    used = {pretrain_name(experiment, init) for init in experiment.initialisations}
    return [name for name in experiment.pretrain if name in used]


def drawn_pretrainings(experiment: config.Experiment) -> list[str]:
    """Used pretrainings whose reconstructions are drawn."""
    return [
        name
        for name in used_pretrainings(experiment)
        if getattr(experiment.pretrain[name], "reconstructions", 0)
    ]


def weights_argument(experiment: config.Experiment, init: str) -> str:
    """What finetuning loads: a file, a torchvision weight name, or 'scratch'."""
    source = experiment.initialisations[init]
    if not isinstance(source, config.Initialisation):
        return "scratch"
    if source.pretrain is not None:
        results = experiment.results.rstrip("/")
        return f"{results}/pretrain/{source.pretrain}/backbone.safetensors"
    assert source.weights is not None
    return source.weights


def initial_files(experiment: config.Experiment, init: str) -> list[str]:
    """Files that an arm's finetunings wait for; a change in them reruns its finetunings.

    A pretraining's or the user's file, or, for torchvision's weights, what says that they are here.
    """
    argument = weights_argument(experiment, init)
    if argument == "scratch":
        return []
    if config.is_path(argument):
        return [argument]
    return [f"{experiment.results.rstrip('/')}/weights/{init}.json"]


def pretrain_files(experiment: config.Experiment, name: str) -> list[str]:
    """Files that a pretraining waits for: the user's, of weights it goes on from."""
    weights = getattr(experiment.pretrain[name], "weights", None)
    return [] if weights is None else [weights]
