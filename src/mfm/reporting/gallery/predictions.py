"""Predictions of one arm's runs on the evaluated images, as far as a gallery needs them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from mfm.evaluation.metrics import read_scores

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ArmPredictions:
    """Of each seed and image: what was predicted, and how sure the network was."""

    arm: str
    classes: tuple[str, ...]
    paths: Sequence[str]  # [images]
    labels: Ints  # [images]
    predicted: Ints  # [seeds, images]
    of_label: Floats  # [seeds, images], the label's probability
    of_predicted: Floats  # [seeds, images], the prediction's

    @property
    def seeds(self) -> int:
        """Runs of the arm."""
        return len(self.predicted)

    @cached_property
    def right(self) -> Ints:
        """[images] how many seeds get each image right."""
        found: Ints = (self.predicted == self.labels).sum(axis=0, dtype=np.int64)
        return found


def read(arm: str, files: Sequence[Path]) -> ArmPredictions:
    """Predictions of an arm's runs, all on the same images; one file at a time is in memory.

    Raises UserError for files of an earlier version, which have fewer probabilities.
    """
    predicted, of_label, of_predicted = [], [], []
    for file in files:
        scores = read_scores(file)
        predicted.append(scores.predictions)
        of_label.append(np.asarray(scores.of_label, np.float64))
        images = np.arange(len(scores.predictions))
        of_predicted.append(scores.probabilities[images, scores.predictions].astype(np.float64))
    return ArmPredictions(
        arm=arm,
        classes=scores.classes,
        paths=pq.read_table(files[0], columns=["path"])["path"].to_pylist(),
        labels=scores.labels,
        predicted=np.stack(predicted),
        of_label=np.stack(of_label),
        of_predicted=np.stack(of_predicted),
    )
