"""Finished experiment: what its runs left, read for the reports."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from mfm.evaluation.results import read_results
from mfm.experiment.layout import Layout, dataset_folder
from mfm.experiment.resolve import pretraining_of, pretrainings
from mfm.experiment.settings import Experiment


@dataclass(frozen=True, kw_only=True)
class Finished:
    """An experiment and its results."""

    experiment: Experiment
    results: pd.DataFrame  # a row a finetuning
    pretrain_seconds: dict[str, dict[int, float]]  # of each run, by the pretraining's name and seed
    summary: dict[str, Any]  # of the dataset

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
    """What is in the experiment's results folder, and its dataset's summary."""
    layout = Layout(experiment.results)
    seconds: dict[str, dict[int, float]] = {}
    for name, seed in pretrainings(experiment):
        epochs = pd.read_csv(layout.pretraining(name, seed).metrics)
        seconds.setdefault(name, {})[seed] = float(epochs["seconds"].sum())
    return Finished(
        experiment=experiment,
        results=read_results(layout.rows),
        pretrain_seconds=seconds,
        summary=json.loads(
            Path(dataset_folder(experiment.dataset.name), "summary.json").read_text()
        ),
    )
