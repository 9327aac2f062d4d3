"""Metrics of stored predictions, by scikit-learn where it has them; each is an entry of METRICS.

Where one is a mean over classes, it is over those that have images: a class without any has no
recall, and an arm that predicts it is wrong there, as elsewhere. Where all images are of one class,
AUROC is not defined, and neither is top-k where there are no more than k classes: such a metric is
not a number, and reports leave it out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mfm.errors import UserError
from mfm.numerics.draws import Floats, Ints

BINS = 15  # of the expected calibration error, of equal width
TOP1 = "top1"  # what is asked about where nothing else is


@dataclass(frozen=True, kw_only=True)
class Scores:
    """One finetuned model's predictions of all images, as numbers."""

    classes: tuple[str, ...]
    labels: Ints
    predictions: Ints
    ranks: Ints  # classes scored above the label
    of_label: Floats  # probability of the label
    probabilities: npt.NDArray[np.floating[Any]]  # [images, classes]
    k: int = 5  # of top-k

    @cached_property
    def present(self) -> Ints:
        """Classes that have images."""
        return np.unique(self.labels)

    @cached_property
    def images(self) -> Ints:
        """Number of each class's images."""
        return np.bincount(self.labels, minlength=len(self.classes))

    @cached_property
    def recalls(self) -> Floats:
        """Share of the images of each class that are recognised; nan for one without images."""
        right = np.bincount(
            self.labels[self.labels == self.predictions], minlength=len(self.classes)
        )
        with np.errstate(invalid="ignore"):
            found: Floats = right / self.images
        return found


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One number of a model's predictions."""

    title: str  # with {k} for the number of classes that top-k looks at, as below
    description: str
    of: Callable[[Scores], float]
    share: bool = True  # given in percent, so that differences are points
    lower_is_better: bool = False

    @property
    def digits(self) -> int:
        """Decimals to show."""
        return 2 if self.share else 4

    @property
    def rounding(self) -> float:
        """Values that are no further apart are equal but for rounding."""
        return 2.5e-4 if self.share else 2.5e-6

    def value(self, scores: Scores) -> float:
        """In percent, where it is a share; nan where it is not defined."""
        return self.of(scores) * (100 if self.share else 1)


def _top1(scores: Scores) -> float:
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(scores.labels, scores.predictions))


def _top_k(scores: Scores) -> float:
    """By the ranks, in which equal scores stand in the order of the classes, as top-1 has them."""
    return float((scores.ranks < scores.k).mean()) if scores.k < len(scores.classes) else np.nan


def _balanced(scores: Scores) -> float:
    from sklearn.metrics import recall_score

    found = recall_score(scores.labels, scores.predictions, labels=scores.present, average="macro")
    return float(found)


def _f1(scores: Scores) -> float:
    from sklearn.metrics import f1_score

    labels = scores.present
    return float(f1_score(scores.labels, scores.predictions, labels=labels, average="macro"))


def _auroc(scores: Scores) -> float:
    from sklearn.metrics import roc_auc_score

    if len(scores.present) < 2:
        return np.nan
    each = [
        roc_auc_score(scores.labels == name, scores.probabilities[:, name])
        for name in scores.present
    ]
    return float(np.mean(each))


def _log_loss(scores: Scores) -> float:
    # Of the label's own probability, which is float64; one that is no longer above 0 there counts
    # as the smallest that is.
    return float(-np.log(scores.of_label.clip(np.finfo(np.float64).tiny)).mean())


def _brier(scores: Scores) -> float:
    every = scores.probabilities
    squares = np.einsum("ij,ij->i", every, every, dtype=np.float64)
    own = np.take_along_axis(every, scores.labels[:, None], axis=1)[:, 0].astype(np.float64)
    return float((squares - 2 * own + 1).mean())


def _calibration(scores: Scores) -> float:
    every = scores.probabilities
    sure = np.take_along_axis(every, scores.predictions[:, None], axis=1)[:, 0].astype(np.float64)
    edges = np.linspace(0, 1, BINS + 1)[1:-1]
    bins = np.digitize(sure, edges, right=True)
    gaps = np.bincount(bins, weights=(scores.labels == scores.predictions) - sure)
    return float(np.abs(gaps).sum() / len(sure))


METRICS: Mapping[str, Metric] = {
    TOP1: Metric(
        title="top-1",
        description="share of images whose best class is the label",
        of=_top1,
    ),
    "top_k": Metric(
        title="top-{k}",
        description="share of images whose label is among the {k} best classes",
        of=_top_k,
    ),
    "balanced_accuracy": Metric(
        title="balanced accuracy",
        description="mean over classes of the share of their images that is recognised",
        of=_balanced,
    ),
    "macro_f1": Metric(
        title="macro F1",
        description="mean over classes of the harmonic mean of precision and recall",
        of=_f1,
    ),
    "auroc": Metric(
        title="AUROC",
        description="one class against the rest, mean over classes: how often an image of the "
        "class has a higher probability of it than another image, equal ones counting half",
        of=_auroc,
    ),
    "log_loss": Metric(
        title="log loss",
        description="mean of -log(probability of the label), with the natural logarithm",
        of=_log_loss,
        share=False,
        lower_is_better=True,
    ),
    "brier": Metric(
        title="Brier score",
        description="mean over images of the sum over all classes of (probability - truth)², from "
        "0 to 2",
        of=_brier,
        share=False,
        lower_is_better=True,
    ),
    "calibration_error": Metric(
        title="expected calibration error",
        description=f"mean gap between the best class's probability and how often it is right, "
        f"over {BINS} bins of that probability of equal width, weighted by their images",
        of=_calibration,
        lower_is_better=True,
    ),
}


def read_scores(predictions: Path, *, k: int = 5) -> Scores:
    """Predictions as an evaluation left them.

    Raises UserError for those of a version that kept the label's probability alone.
    """
    # Not at the top of the file, as scikit-learn above: settings, which name metrics, need neither.
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    schema = pq.read_schema(predictions)
    if "probabilities" not in schema.names:
        raise UserError(
            f"{predictions} has no probabilities of all classes, since an earlier version made it: "
            "snakemake --cores all --forcerun evaluate_config (with your --configfile, if any) "
            "evaluates again, and trains nothing"
        )
    classes = tuple(json.loads(schema.metadata[b"classes"]))
    columns = ["label", "prediction", "rank", "probability", "probabilities"]
    table = pq.read_table(predictions, columns=columns).combine_chunks()

    def codes(column: str) -> Ints:
        found: Ints = pc.index_in(table[column], pa.array(classes)).to_numpy().astype(np.int64)
        return found

    every = table["probabilities"].combine_chunks().flatten().to_numpy()
    return Scores(
        classes=classes,
        labels=codes("label"),
        predictions=codes("prediction"),
        ranks=table["rank"].to_numpy(),
        of_label=table["probability"].to_numpy(),
        probabilities=every.reshape(-1, len(classes)),
        k=k,
    )
