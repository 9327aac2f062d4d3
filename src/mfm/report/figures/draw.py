"""All figures of the comparison, from the files that its runs left."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from mfm import config, workflow
from mfm.report.figures import style
from mfm.report.figures.accuracy import draw_accuracy, draw_difference
from mfm.report.figures.classes import draw_classes, draw_confusion
from mfm.report.figures.curves import draw_finetuning, draw_pretraining

# Name, and what it shows.
FIGURES = {
    "difference": "How much better each arm is than the baseline, in points of top-1 accuracy, "
    "with the 95% interval. Small dots are single seeds. An interval that holds zero leaves open "
    "which of the two is better.",
    "accuracy": "Top-1 accuracy of each arm: every seed, the mean, and its 95% interval.",
    "classes": "Which classes gain. Intervals are for one class at a time and not corrected for "
    "the number of classes: of twenty, about one misses zero by chance.",
    "confusion": "What images of the worst classes are taken for, over all seeds.",
    "finetuning": "Training loss while finetuning. Accuracy is measured once, after the last "
    "epoch, so that no epoch can be chosen by it.",
    "pretraining": "Loss of each pretraining. The dashed lines, where there are some, are "
    "measured on a few fixed validation images at some steps.",
}


def draw_all(experiment: config.Experiment, results: pd.DataFrame, folder: Path) -> None:
    """Write NAME.svg and NAME.png for every name of FIGURES."""
    root = Path(experiment.results)
    arms = [name for name in experiment.initialisations if (results["init"] == name).any()]
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
    pretrainings = {
        name: pd.read_csv(root / f"pretrain/{name}/metrics.csv")
        for name in workflow.used_pretrainings(experiment)
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
        "finetuning": draw_finetuning(experiment, finetunings),
        "pretraining": draw_pretraining(experiment, pretrainings, losses),
    }
    assert drawn.keys() == FIGURES.keys()
    for name, figure in drawn.items():
        for kind in ("svg", "png"):
            style.save(figure, folder / f"{name}.{kind}")
