"""Figures of the comparison, all of them, from the files that its runs left."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mfm.experiment import resolve
from mfm.experiment.layout import Layout
from mfm.experiment.settings import Experiment
from mfm.files import style
from mfm.objectives.pictures import LOSSES
from mfm.objectives.supervised import accuracy_curve
from mfm.reporting.figures import FIGURES
from mfm.reporting.figures.accuracy import draw_accuracy, draw_difference
from mfm.reporting.figures.classes import draw_classes, draw_confusion
from mfm.reporting.figures.curves import draw_finetuning, draw_pretraining


def draw_all(experiment: Experiment, results: pd.DataFrame, folder: Path) -> None:
    """Write NAME.svg and NAME.png for every name of FIGURES."""
    layout = Layout(experiment.results)
    arms = [name for name in experiment.arms if (results["arm"] == name).any()]
    seeds = {name: results[results["arm"] == name]["seed"].tolist() for name in arms}
    images = {
        name: {
            seed: pd.read_parquet(
                layout.evaluation(name, seed).predictions,
                columns=["label", "prediction", "correct"],
            )
            for seed in seeds[name]
        }
        for name in arms
    }
    finetunings = {
        name: [pd.read_csv(layout.finetuning(name, seed).metrics) for seed in seeds[name]]
        for name in arms
    }
    curves = {
        name: [
            accuracy_curve.read(Path(layout.finetuning(name, seed).curve)) for seed in seeds[name]
        ]
        for name in arms
    }
    metrics: dict[str, list[pd.DataFrame]] = {}
    for name, seed in resolve.pretrainings(experiment):
        epochs = pd.read_csv(layout.pretraining(name, seed).metrics)
        metrics.setdefault(name, []).append(epochs)
    losses = {
        name: pd.read_csv(Path(layout.pretraining(name, seed).pictures, LOSSES))
        for name, seed in resolve.pictured_pretrainings(experiment)
    }
    drawn = {
        "difference": draw_difference(experiment, results),
        "accuracy": draw_accuracy(experiment, results),
        "classes": draw_classes(experiment, images),
        "confusion": draw_confusion(images),
        "finetuning": draw_finetuning(experiment, finetunings, curves),
        "pretraining": draw_pretraining(experiment, metrics, losses),
    }
    assert drawn.keys() == FIGURES.keys()
    for name, figure in drawn.items():
        for kind in ("svg", "png"):
            style.save(figure, folder / f"{name}.{kind}")
