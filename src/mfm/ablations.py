"""Upstream's four ablations: the runs each needs, and which it shares with the table."""

from __future__ import annotations

from mfm import config, workflow
from mfm.errors import UserError

# By the name in its file, results/ablation_<name>.md: the key that lists its values.
KEYS = {
    "val_resize": "val_resize",
    "loss": "loss",
    "crop": "crop_area",
    "variance": "pretrain_seeds",
}


def asked(experiment: config.Experiment) -> list[str]:
    """The ablations that the configuration gives values for."""
    return [name for name, key in KEYS.items() if getattr(experiment.ablations, key)]


def own_value(experiment: config.Experiment, ablation: str) -> float | str:
    """The experiment's own value of what an ablation varies."""
    if ablation == "val_resize":
        return experiment.evaluate.resize
    if ablation == "loss":
        return experiment.finetune.loss
    training = experiment.pretrain[_pretraining(experiment)]
    return training.crop.area[0] if ablation == "crop" else training.seed


def values(experiment: config.Experiment, ablation: str) -> list[float | str]:
    """The values that an ablation compares, the experiment's own among them, in order."""
    own = own_value(experiment, ablation)
    found = {own, *getattr(experiment.ablations, KEYS[ablation])}
    # The losses have no order: the experiment's own first.
    return sorted(found, key=lambda value: (value != own, value) if ablation == "loss" else value)


def name_of(value: float | str) -> str:
    """A value as it is called in tables and file names."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def with_variants(experiment: config.Experiment) -> config.Experiment:
    """The experiment with the ablations' pretrainings, and an arm from each, as further ones.

    Their names have the arm's or pretraining's name first: `mfm.area-0.1`, `mfm.seed-1`. Raises
    UserError where the configuration itself has such a name.
    """
    pretrain, arms = dict(experiment.pretrain), dict(experiment.initialisations)
    for ablation in ("crop", "variance"):
        if ablation not in asked(experiment):
            continue
        name = _pretraining(experiment)
        base, source = experiment.pretrain[name], experiment.initialisations[_arm(experiment)]
        assert isinstance(source, config.Initialisation)
        for value in values(experiment, ablation):
            arm = variant_arm(experiment, ablation, value)
            if arm == _arm(experiment):
                continue
            variant = name + arm.removeprefix(_arm(experiment))
            if variant in pretrain or arm in arms:
                raise UserError(
                    f"ablations: '{arm}' needs another name where it is an arm's already"
                )
            pretrain[variant] = _varied(base, ablation, value)
            arms[arm] = source.model_copy(update={"pretrain": variant})
    return config.Experiment.model_validate(
        experiment.model_dump() | {"pretrain": pretrain, "initialisations": arms}
    )


def variant_arm(experiment: config.Experiment, ablation: str, value: float | str) -> str:
    """The arm of a value of 'crop' or 'variance': the experiment's own, or one of the variants."""
    arm = _arm(experiment)
    if value == own_value(experiment, ablation):
        return arm
    return f"{arm}.{'area' if ablation == 'crop' else 'seed'}-{name_of(value)}"


def _varied(base: config.Pretraining, ablation: str, value: float | str) -> config.Pretraining:
    if ablation == "variance":
        return base.model_copy(update={"seed": value})
    crop = base.crop.model_copy(update={"area": (value, base.crop.area[1])})
    return base.model_copy(update={"crop": crop})


def _arm(experiment: config.Experiment) -> str:
    return experiment.ablations.arm


def _pretraining(experiment: config.Experiment) -> str:
    return workflow.pretrain_name(experiment, _arm(experiment))


def folder(experiment: config.Experiment, ablation: str, value: float | str) -> str:
    """Where the runs of a value are, below the results: '' (the table's own), or with a '/'."""
    in_folders = ablation in ("val_resize", "loss")
    if not in_folders or value == own_value(experiment, ablation):
        return ""
    return f"ablation_{ablation}/{name_of(value)}/"


def rows(experiment: config.Experiment, ablation: str) -> dict[str, list[str]]:
    """Result rows of an ablation by the name of the value; for 'crop' also the baseline's."""
    results = experiment.results.rstrip("/")
    everything = workflow.finetunings(with_variants(experiment))
    found = {}
    for value in values(experiment, ablation):
        below = f"{results}/{folder(experiment, ablation, value)}evaluate"
        arms = _arms(experiment, ablation, value)
        runs = [(init, seed) for init, seed in everything if init in arms]
        found[name_of(value)] = [f"{below}/{init}/seed{seed}.csv" for init, seed in runs]
    return found


def _arms(experiment: config.Experiment, ablation: str, value: float | str) -> set[str]:
    if ablation in ("val_resize", "loss"):
        return set(experiment.initialisations)
    arm = variant_arm(experiment, ablation, value)
    return {arm, experiment.baseline} if ablation == "crop" else {arm}
