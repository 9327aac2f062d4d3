"""Settings of a whole experiment, as config.yaml has them: data, recipes, arms, variants."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from mfm.data.settings import Dataset, LoaderChoice
from mfm.errors import UserError
from mfm.evaluation import Evaluation, further_evaluations
from mfm.evaluation.frozen.settings import FLOORS, Frozen
from mfm.evaluation.metrics import TOP1
from mfm.experiment import channels
from mfm.experiment.arms import Arm, FromWeights, LongerScratch
from mfm.experiment.question import Question
from mfm.experiment.results_folder import Results
from mfm.experiment.tuning import TRIALS, TUNED, Tuning
from mfm.models.settings import Model
from mfm.objectives import Pretraining
from mfm.objectives.supervised.settings import Finetuning
from mfm.processes.devices import Device
from mfm.settings.files import read_settings
from mfm.settings.messages import nearest
from mfm.settings.section import Name, Section, Seeds, parse

# Keys of earlier versions, and what says the same now.
_MOVED = {
    "initialisations": "arms",
    "label_efficiency": "variants, e.g. {labels: {key: finetune, values: [{images_per_class: 10}, "
    "{images_per_class: null, fraction: 0.1}]}}",
    "ablations": "variants, e.g. {loss: {key: finetune.loss, values: [ce, bce]}}; "
    "configs/ablations.yaml has upstream's",
}


# What a variant of an experiment doesn't have.
_ALONE: dict[str, Any] = {"variants": {}, "tuning": None, "question": None, "frozen": None}


class Study(Section):
    """Other values of one setting, each a variant of the experiment."""

    key: str = Field(
        description="The setting's dotted key (finetune.loss, pretrain.mfm.seeds), or a section's "
        "(finetune), whose values are keys and values then."
    )
    values: list[Any] = Field(
        min_length=1, description="Its values; the experiment's own always takes part."
    )


class Experiment(Section):
    """A whole experiment: one dataset, any pretrainings, one finetuning recipe, any arms."""

    results: Results = Field(
        "results",
        description="Folder of everything this experiment writes. Another experiment, another "
        "folder: then no switch of configuration overwrites a finished run.",
    )
    seeds: Seeds = Field([0, 1, 2], description="Seeds of finetuning; one run per arm and seed.")
    baseline: Name = Field("scratch", description="The arm that the others are compared with.")
    question: Question | None = Field(
        None,
        description="The primary comparison, declared before the first training; null: none is, "
        "and every comparison is corrected for their number.",
    )
    dataset: Dataset = Field(Dataset(), description="Images.")
    loader: LoaderChoice = "torchvision"
    device: Device = Field(
        "auto",
        description="What jobs compute on: 'cpu', 'cuda' (NVIDIA's GPUs), 'mps' (Apple's, which "
        "nobody has tried yet); 'auto': a GPU where torch sees one, else the CPU.",
    )
    model: Model = Field(Model(), description="Network.")
    pretrain: dict[Name, Pretraining] = Field(
        {}, description="Named pretrainings; only those that an arm uses are run."
    )
    arms: dict[Name, Arm] = Field(
        {"scratch": "scratch"}, min_length=1, description="The arms of the comparison."
    )
    finetune: Finetuning = Field(Finetuning(), description="Finetuning recipe of every arm.")
    evaluate: Evaluation = Field(Evaluation(), description="Evaluation.")
    frozen: Frozen | None = Field(
        None,
        description="Logistic regression and kNN on raw pixels, on features of random weights and "
        "of the weights that each arm starts from (probe.md); null: off.",
    )
    variants: dict[Name, Study] = Field(
        {},
        description="Comparisons of one setting's values, each with a page of its own "
        "(variants/NAME.md). Runs that are equal are shared with the table's.",
    )
    tuning: Tuning | None = Field(
        None,
        description="Finetuning settings that are tried for every arm alike, on images set aside.",
    )

    @property
    def metric(self) -> str:
        """What the table compares: the question's metric, or top-1."""
        return TOP1 if self.question is None else self.question.metric

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As ever, less a key that came later, where it says what held before it."""
        values: dict[str, Any] = write(self)
        return {key: value for key, value in values.items() if (key, value) != ("device", "auto")}

    @model_validator(mode="before")
    @classmethod
    def _moved(cls, values: Any) -> Any:
        moved = [key for key in _MOVED if isinstance(values, dict) and key in values]
        if moved:
            raise ValueError("; ".join(f"'{key}' is now {_MOVED[key]}" for key in moved))
        return channels.with_first_layer(values)

    @model_validator(mode="after")
    def _channels(self) -> Self:
        corruptions = further_evaluations(self.evaluate).get("corruptions")
        pretrainings = {f"pretrain.{name}": each for name, each in self.pretrain.items()}
        fault = channels.fault(
            self.dataset.channels or 3,
            model=self.model,
            loader=self.loader,
            trainings={"finetune": self.finetune, **pretrainings},
            corruptions=getattr(corruptions, "kinds", ()),
        )
        if fault:
            raise ValueError(fault)
        return self

    @model_validator(mode="after")
    def _references(self) -> Self:
        for name, arm in self.arms.items():
            self._check_arm(name, arm)
        named = {"baseline": self.baseline}
        if self.question is not None:
            named["question.arm"] = self.question.arm
            named["question.baseline"] = self.question.baseline
        for key, name in named.items():
            if name not in self.arms:
                near = nearest(name, list(self.arms))
                raise ValueError(f"{key} '{name}' is not below 'arms:'{near}")
        if self.question is not None and self.question.arm == self.question.baseline:
            raise ValueError("question: an arm is compared with another one")
        if self.evaluate.split == "holdout" and not self.dataset.holdout_per_class:
            raise ValueError("evaluate.split: for 'holdout', set dataset.holdout_per_class")
        return self

    def _check_arm(self, name: str, arm: Arm) -> None:
        if self.frozen and name in FLOORS:
            raise ValueError(f"arms.{name}: that is a name of frozen features; take another")
        if arm == "scratch":
            return
        other = set(arm.seeds or ()) - set(self.seeds)
        if other:
            raise ValueError(f"arms.{name}.seeds: {sorted(other)} are not among seeds {self.seeds}")
        if isinstance(arm, LongerScratch):
            known = [
                each
                for each, its in self.arms.items()
                if isinstance(its, FromWeights) and its.pretrain is not None
            ]
            if arm.as_long_as not in known:
                raise ValueError(
                    f"arms.{name}.as_long_as: '{arm.as_long_as}' is not an arm with a pretraining "
                    f"of this workflow{nearest(arm.as_long_as, known)}"
                )
        elif arm.pretrain is not None and arm.pretrain not in self.pretrain:
            raise ValueError(
                f"arms.{name} uses pretrain '{arm.pretrain}', which is not below 'pretrain:'"
                f"{nearest(arm.pretrain, list(self.pretrain))}"
            )

    @model_validator(mode="after")
    def _extracted(self) -> Self:
        frozen, its = self.frozen, self.finetune
        if frozen is not None:
            own = "fraction" if its.fraction is not None else "images_per_class"
            frozen.check_extracted(its.images_per_class, key=f"finetune.{own}")
        return self

    @model_validator(mode="after")
    def _trials(self) -> Self:
        if self.tuning is None:
            return self
        used = sorted(set(self.tuning.seeds) & set(self.seeds))
        if used:
            raise ValueError(
                f"tuning.seeds: {used} are the table's; trials have seeds of their own"
            )
        if not self.dataset.holdout_per_class or self.evaluate.split == "holdout":
            raise ValueError(
                "tuning chooses on the holdout and the table is computed on val: set "
                "dataset.holdout_per_class, and leave evaluate.split at val"
            )
        for trial in self.tuning.trials:
            try:
                with_values(self, {f"finetune.{key}": value for key, value in trial.items()})
            except UserError as error:
                raise ValueError(f"tuning.grid: {error}") from None
        return self

    @model_validator(mode="after")
    def _studies(self) -> Self:
        taken = {TRIALS, TUNED} & set(self.variants)
        if taken:
            raise ValueError(f"variants.{min(taken)}: this name is the tuning's; choose another")
        for name, study in self.variants.items():
            for value in study.values:
                try:
                    with_value(self, study.key, value)
                except UserError as error:
                    raise ValueError(f"variants.{name}: {error}") from None
        return self


def value_at(experiment: Experiment, key: str) -> Any:
    """The value of a dotted key, plain: a section is a dict.

    Raises UserError for a key that is not there.
    """
    section, last = _follow(experiment.model_dump(), key)
    return section[last]


def with_value(experiment: Experiment, key: str, value: Any) -> Experiment:
    """The experiment with another value of a dotted key, and without variants of its own.

    A mapping changes the keys that it names, of a section. Raises UserError where it doesn't fit.
    """
    values = experiment.model_dump() | _ALONE
    section, last = _follow(values, key)
    if isinstance(value, dict) and isinstance(section[last], dict):
        section[last] = {**section[last], **value}
    else:
        section[last] = value
    return parse(Experiment, values, where=f"with {key}: {value}")


def alone(experiment: Experiment) -> Experiment:
    """The experiment without what is compared or chosen beside its table."""
    return experiment.model_copy(update=_ALONE)


def with_values(experiment: Experiment, values: Mapping[str, Any]) -> Experiment:
    """The experiment with other values of several dotted keys."""
    for key, value in values.items():
        experiment = with_value(experiment, key, value)
    return experiment


def _follow(values: dict[str, Any], key: str) -> tuple[dict[str, Any], str]:
    """The section that a dotted key is in, and its last name there. Names may hold dots."""
    section, rest = values, key
    while True:
        if rest in section:
            return section, rest
        inside = [name for name in section if rest.startswith(f"{name}.")]
        below = section[max(inside, key=len)] if inside else None
        if not isinstance(below, dict):
            raise UserError(f"there is no key '{key}'{nearest(rest, list(section))}")
        section, rest = below, rest.removeprefix(f"{max(inside, key=len)}.")


def loads(text: str) -> Experiment:
    """An experiment from JSON, as the workflow gives it to its scripts."""
    return parse(Experiment, json.loads(text), where="configuration")


def load_yaml(path: Path, *more: Path) -> Experiment:
    """Read and check an experiment's YAML file, with others laid over it as Snakemake does.

    A later file's value counts; of a section, key by key.
    """
    values: Any = {}
    for each in (path, *more):
        values = _laid_over(values, read_settings(each))
    return parse(Experiment, values, where=" and ".join(str(each) for each in (path, *more)))


def _laid_over(below: Any, above: Any) -> Any:
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    both = {key: _laid_over(below[key], above[key]) for key in below.keys() & above.keys()}
    return {**below, **above, **both}
