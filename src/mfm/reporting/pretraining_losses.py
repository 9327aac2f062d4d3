"""Losses of pretrainings beside those of constant predictions: losses.csv.

A row for each run, loss and time. Losses of a task with pictures are measured on a few fixed
validation images, on the way; those of another one, whose settings say what a constant has, are
its training's, a row an epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from mfm.experiment import resolve
from mfm.experiment.jobs import PretrainJob
from mfm.experiment.layout import Layout
from mfm.experiment.settings import Experiment
from mfm.processes.startup import importing
from mfm.settings.section import load_json

TRAINING = "training"  # the loss of the training images, in the mean of each epoch
COLUMNS = ("pretraining", "seed", "loss", "epoch", "value", "constant", "predicted")
_ALIKE = "alike"
# What a constant is, for every image.
PREDICTED = {
    "zero": "zero",
    "mean": "the mean of training images",
    "median": "the median of training images",
    _ALIKE: "the same",
}


def measure(configs: Sequence[Path], *, manifest_path: Path) -> pd.DataFrame:
    """The rows of runs, which their config.json stand for. One that kept nothing has none."""
    rows = list[dict[str, Any]]()
    constants: dict[str, dict[str, Any]] = {}  # the same for all runs of a pretraining
    for config in configs:
        job = load_json(PretrainJob, config)
        if job.training.pictured:
            if job.name not in constants:
                constants[job.name] = _constants(job, manifest_path)
            found = _on_fixed_images(config.parent, constants[job.name])
        else:
            known = {"constant": job.training.constant_loss, "predicted": _ALIKE}
            constants[job.name] = {TRAINING: known}
            found = _in_training(config.with_name("metrics.csv"))
        rows += [
            {"pretraining": job.name, "seed": job.seed, **row, **constants[job.name][row["loss"]]}
            for row in found
        ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _constants(job: PretrainJob, manifest_path: Path) -> dict[str, Any]:
    """By the loss's name, what the best constant has, and what that is."""
    with importing():
        from mfm.objectives.constants import EXAMPLES, constant_losses
        from mfm.objectives.pictures import fixed_images

    images = partial(fixed_images, manifest_path=manifest_path, size=job.size)
    found = constant_losses(
        job.training.pictures(model=job.model, size=job.size),
        images(job.training.pictured),
        examples=images(EXAMPLES, split=job.split),
    )
    return {
        loss: {"constant": each.loss, "predicted": each.predicted} for loss, each in found.items()
    }


def _on_fixed_images(run: Path, losses: Iterable[str]) -> Iterator[dict[str, Any]]:
    from mfm.objectives.pictures import load_snapshots

    kept = load_snapshots(run)
    for loss in losses:
        for epoch, seen in kept.items():
            yield {"loss": loss, "epoch": epoch, "value": seen[f"loss_{loss}"].item()}


def _in_training(metrics: Path) -> Iterator[dict[str, Any]]:
    for row in pd.read_csv(metrics).to_dict("records"):
        yield {"loss": TRAINING, "epoch": float(row["epoch"]), "value": row["loss"]}


def of(experiment: Experiment) -> pd.DataFrame:
    """losses.csv of an experiment; no rows where it compares no pretraining."""
    path = Path(Layout(experiment.results).losses)
    # A file that is left of an earlier configuration is no part of this one.
    if not resolve.compared_pretrainings(experiment) or not path.exists():
        return pd.DataFrame(columns=list(COLUMNS))
    return pd.read_csv(path, dtype={"pretraining": str})
