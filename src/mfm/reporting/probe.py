"""Page of the probes: what is read from frozen features with a few labels and with more."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mfm.evaluation.frozen.settings import LOGISTIC
from mfm.experiment.layout import Layout
from mfm.reporting.document import Block, Bullets, Column, Paragraph, Picture, Section, Table, Text
from mfm.reporting.finished import Finished
from mfm.reporting.frozen import Readings, shown
from mfm.reporting.words import difference, listed, percentage
from mfm.statistics.over_seeds import Difference, Estimate, estimate

CAPTION = (
    "Top-1 of what is read from frozen features, over labelled images: mean and 95% interval. "
    "Grey: raw pixels and random weights, which no pretraining made."
)


def method_title(method: str) -> str:
    """A method in words."""
    if method == LOGISTIC:
        return "logistic regression"
    return f"{method.removeprefix('knn')} nearest neighbours"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One kind of features, read by one method at one amount of labels."""

    found: Readings
    features: str
    method: str
    amount: str
    images: float  # labelled ones, on average over seeds
    top1: Estimate
    gain: Difference | None  # less random weights


def readings(found: Readings) -> list[Reading]:
    """All of them: by method, then by amount, then by kind of features."""
    every = [
        (method, amount, features)
        for method in found.methods
        for amount in found.amounts
        for features in found.features
    ]
    rows = []
    for method, amount, features in every:
        sample = found.sample(features, method, amount)
        if sample is None:
            continue
        rows.append(
            Reading(
                found=found,
                features=features,
                method=method,
                amount=amount,
                images=float(found.part(features, method, amount)["images"].mean()),
                top1=estimate(sample),
                gain=found.gain(features, method, amount),
            )
        )
    return rows


def numbers(found: Readings) -> pd.DataFrame:
    """probe.csv: a row a reading, accuracies in percent, differences in points."""
    return pd.DataFrame(
        {
            "method": row.method,
            "amount": row.amount,
            "images": round(row.images, 1),
            "features": row.features,
            "n": row.top1.n,
            "units": row.top1.units,
            "top1": row.top1.mean,
            "low": row.top1.low,
            "high": row.top1.high,
            "less_random": row.gain and row.gain.mean,
            "less_random_low": row.gain and row.gain.low,
            "less_random_high": row.gain and row.gain.high,
        }
        for row in readings(found)
    ).round(4)


COLUMNS: list[Column[Reading]] = [
    Column("labels a class", lambda row: row.amount),
    Column("frozen features of", lambda row: shown(row.features)),
    Column(
        "top-1",
        lambda row: percentage(row.top1),
        unit="%",
        description="mean over seeds, or over pretrainings where there are several; 95% interval",
    ),
    Column(
        "less random weights",
        lambda row: "-" if row.gain is None else difference(row.gain),
        unit="points",
        description="paired by seed, with its 95% interval; not tested",
    ),
]


def document(found: Readings) -> Section:
    """The page: a table a method, and below them how each reads."""
    experiment = found.experiment
    tables: dict[str, list[Reading]] = {}
    for row in readings(found):
        tables.setdefault(row.method, []).append(row)
    blocks: list[Block] = [
        Paragraph(
            "Accuracy on the evaluated images of classifiers that see nothing but features: raw "
            "pixels, those of random weights, and those of the weights that each arm starts from, "
            "which are not trained further. Each seed's labelled images are those of its "
            "finetuning, and more of them include the fewer. No comparison here is tested."
        ),
        Picture(Path(Layout(experiment.results).probe("svg")).name, CAPTION),
    ]
    for method, rows in tables.items():
        title = method_title(method)
        blocks.append(Section(title[0].upper() + title[1:], [Table(COLUMNS, rows)]))
    blocks.append(Section("How they read", [Bullets(_notes(found))]))
    return Section(
        f"{experiment.model.backbone} on {experiment.dataset.name}: what can be read from frozen "
        "features?",
        blocks,
    )


def pages(found: Finished) -> list[Section]:
    """The page, where frozen features were asked for."""
    return [] if found.readings is None else [document(found.readings)]


def _notes(found: Readings) -> list[Text]:
    """What to know of the methods."""
    notes: list[Text] = []
    fitted = found.rows[found.rows["method"] == LOGISTIC]
    if not fitted.empty:
        notes.append(
            "Logistic regression has an L2 penalty, whose inverse strength C is chosen for each "
            "seed by cross-validation within its labelled images, in the same folds for all "
            f"features: {_chosen(fitted)}."
        )
    if len(fitted) < len(found.rows[found.rows["method"] == found.methods[-1]]):
        most = found.experiment.frozen and found.experiment.frozen.logistic_up_to
        notes.append(
            f"It is fitted to at most {most:,} labelled images (frozen.logistic_up_to); with more, "
            "neighbours alone are read."
        )
    single = [row.features for row in readings(found) if row.top1.conditional]
    if single:
        notes.append(
            f"Given a single pretraining: {listed(dict.fromkeys(single))}. Another may be read "
            "better or worse, by more than these intervals say."
        )
    notes.append(
        "Nearest neighbours are those of the largest cosine, and exact; a neighbour votes with "
        "exp(cosine / 0.07). With fewer labels a class than neighbours, those of other classes "
        "have to vote too, and with fewer labelled images all of them do."
    )
    return notes


def _chosen(fitted: pd.DataFrame) -> str:
    """Which C each kind of features got."""
    spans = {}
    for features, part in fitted.groupby("features", sort=False):
        low, high = part["C"].min(), part["C"].max()
        spans[str(features)] = f"{low:g}" if low == high else f"{low:g} to {high:g}"
    return listed(f"{shown(name).removeprefix('none: ')} {span}" for name, span in spans.items())
