"""Finished experiment: what its runs left, read for the reports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from mfm.evaluation import looks
from mfm.evaluation.results import read_results
from mfm.experiment import question
from mfm.experiment.layout import Layout, dataset_folder
from mfm.experiment.question import Declaration
from mfm.experiment.resolve import pretraining_of, pretrainings
from mfm.experiment.settings import Experiment
from mfm.reporting import frozen, pretraining_losses
from mfm.reporting.frozen import Readings


@dataclass(frozen=True, kw_only=True)
class Finished:
    """An experiment and its results."""

    experiment: Experiment
    results: pd.DataFrame  # a row a finetuning
    pretrain_seconds: dict[str, dict[int, float]]  # of each run, by the pretraining's name and seed
    summary: dict[str, Any]  # of the dataset
    declarations: Sequence[Declaration] = ()  # of the question, the first one first
    looks: int = 0  # different experiments that were evaluated on these images; 0: not known
    frozen: pd.DataFrame | None = None  # accuracies on frozen features
    losses: pd.DataFrame | None = None  # of pretrainings, beside constants

    @property
    def readings(self) -> Readings | None:
        """What was read from frozen features."""
        if self.frozen is None:
            return None
        return Readings(experiment=self.experiment, rows=self.frozen)

    @property
    def layout(self) -> Layout:
        """Its files."""
        return Layout(self.experiment.results)

    @cached_property
    def arms(self) -> dict[str, pd.DataFrame]:
        """Rows of each arm that has some, in the configuration's order."""
        found = {str(name): part for name, part in self.results.groupby("arm", sort=False)}
        return {name: found[name] for name in self.experiment.arms if name in found}

    def pretrain_seconds_of(self, arm: str) -> float | None:
        """Mean time of a pretraining that an arm starts from; None without one that ran here."""
        runs = self.pretrain_seconds.get(pretraining_of(self.experiment, arm) or "")
        return sum(runs.values()) / len(runs) if runs else None


def read(experiment: Experiment) -> Finished:
    """What is in the experiment's results folder, and in its dataset's."""
    layout, data = Layout(experiment.results), dataset_folder(experiment.dataset.name)
    seconds: dict[str, dict[int, float]] = {}
    for name, seed in pretrainings(experiment):
        epochs = pd.read_csv(layout.pretraining(name, seed).metrics)
        seconds.setdefault(name, {})[seed] = float(epochs["seconds"].sum())
    return Finished(
        experiment=experiment,
        results=read_results(layout.rows),
        pretrain_seconds=seconds,
        summary=json.loads(Path(data, "summary.json").read_text(encoding="utf-8")),
        declarations=question.read(Path(layout.question)),
        looks=looks.count(data, experiment.evaluate.split),
        # A file that is left of an earlier configuration is no part of this one.
        frozen=frozen.read(layout.frozen()) if experiment.frozen is not None else None,
        losses=pretraining_losses.of(experiment),
    )
