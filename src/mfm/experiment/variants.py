"""Variants of an experiment: one of its settings with other values, all else as it is.

Ablations, amounts of labelled images, evaluation sizes and seeds of a pretraining are all this. A
run whose settings and initial weights are those of another one is that one: it is done once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mfm.errors import UserError
from mfm.evaluation import Evaluation
from mfm.experiment.layout import FinetunedModel, Layout, variant_folder
from mfm.experiment.resolve import (
    dataset_job,
    evaluate_job,
    evaluated_names,
    finetune_job,
    finetunings,
    pretrain_job,
    pretraining_of,
    pretraining_seed,
    pretrainings,
    without_seeds,
)
from mfm.experiment.settings import (
    Experiment,
    Study,
    alone,
    value_at,
    with_value,
    with_values,
)
from mfm.experiment.tuning import TRIALS, TUNED
from mfm.models.sources import source_of
from mfm.settings.section import LONGEST_NAME, dumps


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One value of a study, and the experiment that has it."""

    study: str
    value: Any
    name: str  # of the value, in tables and folders
    own: bool  # whether it is the experiment's own value
    folder: str  # of the runs that are not shared: '' for the experiment's own
    experiment: Experiment


def name_of(value: Any) -> str:
    """A value as it is called in tables and folders: bce, 0.1, batch-50_images_per_class-10."""
    if isinstance(value, dict):
        # Sorted, so that the order of keys in a file makes no other folder.
        named = sorted((key, part) for key, part in value.items() if part is not None)
        parts = [f"{key}-{name_of(part)}" for key, part in named]
        return "_".join(parts) or "all"
    if isinstance(value, list | tuple):
        return "-".join(name_of(part) for part in value)
    text = f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in text)


def variants_of(experiment: Experiment, study: str) -> list[Variant]:
    """The study's variants, in its order; the experiment's own value is one, first if not listed.

    Raises UserError for values that have one name, and for a key that variants have in common.
    """
    settings = experiment.variants[study]
    own = _own(experiment, settings)
    found = []
    for value in settings.values:
        varied = with_value(experiment, settings.key, value)
        if (varied.results, dataset_job(varied)) != (experiment.results, dataset_job(experiment)):
            raise UserError(
                f"variants.{study}: {settings.key} is the same in all variants: they have one "
                "dataset, of which image_size alone may vary, and one results folder"
            )
        same = varied == alone(experiment)
        found.append(_variant(study, value, own=same, experiment=varied))
    if not any(variant.own for variant in found):
        # A section's keys that are null have no name; with others that have one it would mislead.
        open_keys = isinstance(own, dict) and None in own.values()
        name = "own" if open_keys and any(part is not None for part in own.values()) else None
        found.insert(0, _variant(study, own, own=True, experiment=experiment, name=name))
    names = [variant.name for variant in found]
    if len(set(names)) != len(names):
        raise UserError(f"variants.{study}.values: give each value once")
    return found


def trials_of(experiment: Experiment) -> list[Variant]:
    """The tuning's trials, on the holdout, in the grid's order; none where nothing is tuned."""
    if experiment.tuning is None:
        return []
    on_holdout = experiment.model_copy(
        update={
            "seeds": experiment.tuning.seeds,
            "arms": {name: without_seeds(arm) for name, arm in experiment.arms.items()},
            "evaluate": Evaluation(
                **evaluate_job(experiment).evaluation.model_dump() | {"split": "holdout"}
            ),
        }
    )
    found = [_tried(on_holdout, trial, study=TRIALS) for trial in experiment.tuning.trials]
    if len({each.name for each in found}) < len(found):
        raise UserError("tuning.grid: give each value once")
    return found


def tuned_of(experiment: Experiment) -> list[Variant]:
    """The table's experiment with each trial's settings; the runs of most are never asked for."""
    if experiment.tuning is None:
        return []
    return [_tried(experiment, trial, study=TUNED) for trial in experiment.tuning.trials]


def _tried(experiment: Experiment, trial: dict[str, Any], *, study: str) -> Variant:
    varied = with_values(experiment, {f"finetune.{key}": value for key, value in trial.items()})
    # A trial is evaluated on other images than the table, whatever its settings are.
    own = study == TUNED and varied == alone(experiment)
    return _variant(study, trial, own=own, experiment=varied)


def _variant(
    study: str, value: Any, *, own: bool, experiment: Experiment, name: str | None = None
) -> Variant:
    name = name or name_of(value)
    if len(name.encode()) > LONGEST_NAME:  # of many keys: they can't all be in a folder's name
        name = f"{name[: LONGEST_NAME // 4]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    folder = "" if own else variant_folder(study, name)
    return Variant(
        study=study, value=value, name=name, own=own, folder=folder, experiment=experiment
    )


def _own(experiment: Experiment, study: Study) -> Any:
    """The experiment's value; of a section, the keys that the study's values set."""
    value = value_at(experiment, study.key)
    if not isinstance(value, dict):
        return value
    keys = {key: None for given in study.values if isinstance(given, dict) for key in given}
    return {key: value[key] for key in keys}


class Runs:
    """All runs of an experiment and its variants, and the folder of each: shared where equal."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.layout = Layout(experiment.results)
        self.studies = {study: variants_of(experiment, study) for study in experiment.variants}
        self.trials = {each.name: each for each in trials_of(experiment)}
        self.tuned = {each.name: each for each in tuned_of(experiment)}
        self._experiments = {"": experiment}
        for variants in (*self.studies.values(), self.trials.values()):
            self._experiments |= {v.folder: v.experiment for v in variants if v.folder}
        # Of these only the best trials' runs are asked for, when they are known.
        self._maybe = {v.folder: v.experiment for v in self.tuned.values() if v.folder}
        self._all_experiments = self._experiments | self._maybe
        self._folders: dict[str, str] = {}  # of a run, by everything that determines it
        # Which of equal runs is the one must not depend on what is asked first.
        assert self.pretrainings is not None
        assert self.finetunings is not None
        for name in evaluated_names(experiment):
            self.evaluations(name)
        for folder, arm, seed in self.finetunings:
            self.initial_files(arm, seed, folder=folder)
        for folder, each in self._maybe.items():
            for arm, seed in finetunings(each):
                self.evaluation(arm, seed, folder=folder)

    @property
    def folders(self) -> list[str]:
        """Folders that may have runs: '' is the experiment's own."""
        return list(self._all_experiments)

    def at(self, folder: str) -> Experiment:
        """The experiment whose own runs are in a folder."""
        return self._all_experiments[folder]

    def pretraining(self, name: str, seed: int, *, folder: str = "") -> str:
        """Folder of a pretraining that the experiment of `folder` uses."""
        return self._folder_of(dumps(pretrain_job(self.at(folder), name, seed)), folder)

    def finetuning(self, arm: str, seed: int, *, folder: str = "") -> str:
        """Folder of one of its finetunings."""
        job = dumps(finetune_job(self.at(folder), arm, seed))
        return self._folder_of(f"{job}\n{self.initial_weights(arm, seed, folder=folder)}", folder)

    def evaluation(self, arm: str, seed: int, *, folder: str = "", name: str = "evaluate") -> str:
        """Folder of one of its evaluations."""
        job = dumps(evaluate_job(self.at(folder), name))
        return self._folder_of(
            f"{job}\n{arm} {seed} {self.finetuning(arm, seed, folder=folder)}", folder
        )

    def initial_weights(self, arm: str, seed: int, *, folder: str = "") -> str:
        """What a finetuning loads: a file, a weight name, or 'scratch'."""
        experiment = self.at(folder)
        name, number = pretraining_of(experiment, arm), pretraining_seed(experiment, arm, seed)
        if name is None or number is None:
            return getattr(experiment.arms[arm], "weights", None) or "scratch"
        there = self.pretraining(name, number, folder=folder)
        return self.layout.pretraining(name, number, folder=there).weights

    def initial_files(self, arm: str, seed: int, *, folder: str = "") -> list[str]:
        """Files that a finetuning waits for: weights, or what says that they are here."""
        weights = self.initial_weights(arm, seed, folder=folder)
        if weights == "scratch":
            return []
        file = source_of(weights).file(weights)
        fetched = self._folder_of(f"weights of {arm}: {weights}", folder)
        return [file or self.layout.weights(arm, folder=fetched)]

    @cached_property
    def pretrainings(self) -> list[tuple[str, str, int]]:
        """Every pretraining: (folder, name, seed), each once."""
        return list(
            dict.fromkeys(
                (self.pretraining(name, seed, folder=folder), name, seed)
                for folder, experiment in self._experiments.items()
                for name, seed in pretrainings(experiment)
            )
        )

    @cached_property
    def finetunings(self) -> list[tuple[str, str, int]]:
        """Every finetuning: (folder, arm, seed), each once."""
        return list(
            dict.fromkeys(
                (self.finetuning(arm, seed, folder=folder), arm, seed)
                for folder, arm, seed in self._all()
            )
        )

    @property
    def trainings(self) -> list[str]:
        """Folders, below the results, of all trainings that are or may be asked for."""
        pretrained = (
            self.layout.pretraining(name, seed, folder=folder)
            for folder, name, seed in self.pretrainings
        )
        maybe = (
            (self.finetuning(arm, seed, folder=folder), arm, seed)
            for folder, each in self._maybe.items()
            for arm, seed in finetunings(each)
        )
        finetuned = (
            self.layout.finetuning(arm, seed, folder=folder)
            for folder, arm, seed in dict.fromkeys([*self.finetunings, *maybe])
        )
        return [self.layout.relative(files.folder) for files in (*pretrained, *finetuned)]

    def evaluations(self, name: str = "evaluate") -> list[tuple[str, str, int]]:
        """Every evaluation of that name: (folder, arm, seed), each once."""
        return list(
            dict.fromkeys(
                (self.evaluation(arm, seed, folder=folder, name=name), arm, seed)
                for folder, arm, seed in self._all()
                if name in evaluated_names(self.at(folder))
            )
        )

    def rows(self, variant: Variant) -> list[str]:
        """Result rows of a variant, of every arm and seed."""
        return [
            self.layout.evaluation(
                arm, seed, folder=self.evaluation(arm, seed, folder=variant.folder)
            ).row
            for arm, seed in finetunings(variant.experiment)
        ]

    def tuned_models(self, best: Mapping[str, str]) -> list[FinetunedModel]:
        """The table's models where each arm has the settings of its best trial."""
        found = []
        for arm, seed in finetunings(self.experiment):
            folder = self.finetuning(arm, seed, folder=self.tuned[best[arm]].folder)
            found.append(FinetunedModel(layout=self.layout, folder=folder, arm=arm, seed=seed))
        return found

    def varied_arms(self, study: str) -> list[str]:
        """The arms that a study's values make any difference to; all where none does."""
        found = [
            arm
            for arm in self.experiment.arms
            if any(
                self.evaluation(name, seed, folder=variant.folder)
                for variant in self.studies[study]
                for name, seed in finetunings(variant.experiment)
                if name == arm
            )
        ]
        return found or list(self.experiment.arms)

    def _all(self) -> Iterator[tuple[str, str, int]]:
        for folder, experiment in self._experiments.items():
            for arm, seed in finetunings(experiment):
                yield folder, arm, seed

    def _folder_of(self, determined_by: str, folder: str) -> str:
        # The experiment's own runs come first, then the variants' in the configuration's order.
        return self._folders.setdefault(determined_by, folder)
