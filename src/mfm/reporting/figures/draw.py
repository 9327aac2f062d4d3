"""Figures of the comparison, all of them, from the files that its runs left."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from mfm.experiment import resolve
from mfm.experiment.layout import FinetunedModel, Layout, dataset_folder, locate
from mfm.experiment.settings import Experiment
from mfm.files import style
from mfm.reporting import pretraining_losses
from mfm.reporting.figures import FIGURES
from mfm.reporting.figures.accuracy import draw_accuracy, draw_answer, draw_difference
from mfm.reporting.figures.classes import draw_classes, draw_confusion
from mfm.reporting.figures.curves import draw_finetuning, draw_pretraining
from mfm.reporting.figures.frontier import draw_frontier


def draw_all(experiment: Experiment, results: pd.DataFrame, folder: Path) -> None:
    """Write NAME.svg and NAME.png for every name of FIGURES."""
    layout = Layout(experiment.results)
    models: dict[str, dict[int, FinetunedModel]] = {name: {} for name in experiment.arms}
    for row in results.to_dict("records"):
        model = locate(str(row["checkpoint"]))
        assert model is not None, row["checkpoint"]
        models[str(row["arm"])][int(row["seed"])] = model
    models = {name: runs for name, runs in models.items() if runs}
    images = {
        name: {
            seed: pd.read_parquet(
                model.evaluation.predictions, columns=["label", "prediction", "correct"]
            )
            for seed, model in runs.items()
        }
        for name, runs in models.items()
    }
    finetunings = {
        name: [pd.read_csv(model.run.metrics) for model in runs.values()]
        for name, runs in models.items()
    }
    curves = {
        name: [read_curve(Path(model.run.curve)) for model in runs.values()]
        for name, runs in models.items()
    }
    metrics: dict[str, list[pd.DataFrame]] = {}
    for name, seed in resolve.pretrainings(experiment):
        epochs = pd.read_csv(layout.pretraining(name, seed).metrics)
        metrics.setdefault(name, []).append(epochs)
    drawn = {
        "answer": draw_answer(experiment, results),
        "difference": draw_difference(experiment, results),
        "accuracy": draw_accuracy(experiment, results),
        "frontier": draw_frontier(
            experiment,
            results,
            {name: [each["seconds"].sum() for each in runs] for name, runs in metrics.items()},
        ),
        "classes": draw_classes(experiment, images),
        "confusion": draw_confusion(images),
        "finetuning": draw_finetuning(
            experiment, finetunings, curves, images=_measured_images(experiment)
        ),
        "pretraining": draw_pretraining(experiment, metrics, pretraining_losses.of(experiment)),
    }
    assert drawn.keys() == FIGURES.keys()
    for name, figure in drawn.items():
        for kind in ("svg", "png"):
            style.save(figure, folder / f"{name}.{kind}")


def _measured_images(experiment: Experiment) -> int:
    """Images of the split that accuracy is measured on while finetuning."""
    path = dataset_folder(experiment.dataset.name) / "summary.json"
    splits = json.loads(path.read_text(encoding="utf-8"))["splits"]
    return int(splits[experiment.dataset.curve]["images"])


def read_curve(file: Path) -> pd.DataFrame:
    """A finetuning's accuracy.csv: epochs done, top1 in percent. No rows where there is no file."""
    if file.exists():
        return pd.read_csv(file)
    return pd.DataFrame({"epoch": pd.Series(dtype=float), "top1": pd.Series(dtype=float)})
