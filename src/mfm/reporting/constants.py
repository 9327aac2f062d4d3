"""Pretrainings beside constant predictions: which of their losses hardly fell below one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pandas as pd

from mfm.reporting.document import Bold, Bullets, Column, Section, Table, Text
from mfm.reporting.finished import Finished
from mfm.reporting.pretraining_losses import PREDICTED, TRAINING
from mfm.reporting.words import listed

# Of a constant's loss. The constants are simple ones: the best of all would be up to 1% lower (see
# mfm.objectives.constants). What is within a few times that has hardly used its images.
HARDLY = 0.95


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One loss of a pretraining, after the last epoch of each run."""

    pretraining: str
    loss: str  # what it is of
    runs: int
    mean: float
    constant: float
    predicted: str
    hardly: int  # runs that didn't get clearly below the constant

    @property
    def some(self) -> str:
        """'more than 95% in 1 of 2 runs'."""
        return f"more than {HARDLY:.0%} in {self.hardly} of {self.runs} runs"

    @property
    def share(self) -> float:
        """Of the constant's, in percent."""
        return 100 * self.mean / self.constant


def compared(found: Finished) -> list[Compared]:
    """Every loss that a constant is known of."""
    return [] if found.losses is None else list(_compared(found, found.losses))


def _compared(found: Finished, losses: pd.DataFrame) -> Iterator[Compared]:
    for (name, loss), rows in losses.groupby(["pretraining", "loss"], sort=False):
        last = rows.sort_values("epoch").groupby("seed").last()
        texts = found.experiment.pretrain[str(name)].losses
        yield Compared(
            pretraining=str(name),
            loss="in training" if loss == TRAINING else texts.get(str(loss), str(loss)),
            runs=len(last),
            mean=float(last["value"].mean()),
            constant=float(last["constant"].iloc[0]),
            predicted=PREDICTED[str(last["predicted"].iloc[0])],
            hardly=int((last["value"] > HARDLY * last["constant"]).sum()),
        )


def warning(found: Finished) -> list[Text]:
    """A sentence on losses that are hardly better than saying the same of every image."""
    those = [each for each in compared(found) if each.hardly]
    if not those:
        return []
    parts = [
        f"the loss of {each.pretraining} {each.loss} is {each.share:.0f}% of that of saying the "
        f"same of every image{'' if each.hardly == each.runs else f' ({each.some})'}"
        for each in those
    ]
    return [
        Bold(
            f"Hardly learned: {listed(parts)}. There it has hardly used its images: train it "
            "longer or with another learning rate, or give the network a last map of more "
            "positions (model.stem_stride), before judging the task."
        )
    ]


COLUMNS: list[Column[Compared]] = [
    Column("pretraining", lambda row: row.pretraining),
    Column("loss", lambda row: row.loss),
    Column("after training", lambda row: f"{row.mean:.4g}"),
    Column("of a constant", lambda row: f"{row.constant:.4g}"),
    Column("which is", lambda row: row.predicted),
    Column("share of it", lambda row: f"{row.share:.0f}", unit="%"),
]


def sections(found: Finished) -> list[Section]:
    """All of them, whether low or not."""
    rows = compared(found)
    if not rows:
        return []
    notes: list[Text] = [
        "After the last epoch, on a few fixed validation images (in training: the mean of the "
        "epoch), as a mean over the pretraining's runs. A constant says the same of every image: "
        "the best of zero, and the mean and the median of training images.",
    ]
    return [Section("Pretraining beside a constant", [Table(COLUMNS, rows), Bullets(notes)])]
