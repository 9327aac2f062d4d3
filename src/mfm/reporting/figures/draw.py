"""All figures of the comparison, from the files that its runs left."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mfm.experiment import resolve
from mfm.experiment.settings import Experiment
from mfm.files import style
from mfm.objectives.supervised import accuracy_curve
from mfm.reporting.figures import FIGURES
from mfm.reporting.figures.accuracy import draw_accuracy, draw_difference
from mfm.reporting.figures.classes import draw_classes, draw_confusion
from mfm.reporting.figures.curves import draw_finetuning, draw_pretraining


def draw_all(experiment: Experiment, results: pd.DataFrame, folder: Path) -> None:
    """Write NAME.svg and NAME.png for every name of FIGURES."""
    root = Path(experiment.results)
    arms = [name for name in experiment.arms if (results["init"] == name).any()]
    seeds = {name: results[results["init"] == name]["seed"].tolist() for name in arms}
    images = {
        name: {
            seed: pd.read_parquet(
                root / f"evaluate/{name}/seed{seed}.parquet",
                columns=["label", "prediction", "correct"],
            )
            for seed in seeds[name]
        }
        for name in arms
    }
    finetunings = {
        name: [
            pd.read_csv(root / f"finetune/{name}/seed{seed}/metrics.csv") for seed in seeds[name]
        ]
        for name in arms
    }
    curves = {
        name: [
            accuracy_curve.read(root / f"finetune/{name}/seed{seed}/{accuracy_curve.NAME}")
            for seed in seeds[name]
        ]
        for name in arms
    }
    pretrainings = {
        name: pd.read_csv(root / f"pretrain/{name}/metrics.csv")
        for name in resolve.used_pretrainings(experiment)
    }
    losses = {
        name: pd.read_csv(path)
        for name in pretrainings
        if (path := root / f"pretrain/{name}/fixed_images.csv").exists()
    }
    drawn = {
        "difference": draw_difference(experiment, results),
        "accuracy": draw_accuracy(experiment, results),
        "classes": draw_classes(experiment, images),
        "confusion": draw_confusion(images),
        "finetuning": draw_finetuning(experiment, finetunings, curves),
        "pretraining": draw_pretraining(experiment, pretrainings, losses),
    }
    assert drawn.keys() == FIGURES.keys()
    for name, figure in drawn.items():
        for kind in ("svg", "png"):
            style.save(figure, folder / f"{name}.{kind}")
