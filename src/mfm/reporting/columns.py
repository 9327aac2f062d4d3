"""Columns of the table's measured rows. A column is one entry of COLUMNS."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from mfm.experiment.arms import FromWeights
from mfm.experiment.resolve import pretraining_of
from mfm.reporting.document import Bold, Column, Link, Text, joined, parts_of
from mfm.reporting.finished import Finished
from mfm.reporting.words import duration, interval
from mfm.statistics.over_seeds import Difference, Estimate, estimate
from mfm.statistics.units import Sample


@dataclass(frozen=True, kw_only=True)
class MeasuredArm:
    """An arm, its runs, and its difference from the baseline."""

    name: str
    found: Finished
    difference: Difference | None  # None for the baseline

    @property
    def rows(self) -> pd.DataFrame:
        """Of results.csv."""
        return self.found.arms[self.name]

    @cached_property
    def top1(self) -> Estimate:
        """Over its seeds."""
        return estimate(Sample(values=dict(zip(self.rows["seed"], self.rows["top1"], strict=True))))

    @property
    def pretraining(self) -> str | None:
        """The name of the one that it starts from."""
        return pretraining_of(self.found.experiment, self.name)


def _pretraining(arm: MeasuredArm) -> Text:
    settings, layout = arm.found.experiment.arms[arm.name], arm.found.layout
    if arm.pretraining is not None:
        runs = dict.fromkeys(sorted(int(seed) for seed in arm.rows["pretraining_seed"]))
        files = {seed: layout.pretraining(arm.pretraining, seed).weights for seed in runs}
        links = [Link(f"seed {seed}", layout.relative(file)) for seed, file in files.items()]
        return (f"{arm.pretraining}: ", *parts_of(joined(links, ", ")))
    return str(settings.weights) if isinstance(settings, FromWeights) else "-"


def _finetunings(arm: MeasuredArm) -> Text:
    runs = sorted(zip(arm.rows["seed"], arm.rows["checkpoint"], strict=True))
    relative = arm.found.layout.relative
    return joined([Link(f"seed {seed}", relative(checkpoint)) for seed, checkpoint in runs], ", ")


def _epochs(arm: MeasuredArm) -> str:
    finetuning = f"{arm.rows['epochs'].max()}"
    if arm.pretraining is None:
        return finetuning
    return f"{arm.found.experiment.pretrain[arm.pretraining].epochs} + {finetuning}"


def _time(arm: MeasuredArm) -> str:
    finetuning = duration(float(arm.rows["seconds"].mean()))
    pretraining = arm.found.pretrain_seconds_of(arm.name)
    return finetuning if pretraining is None else f"{duration(pretraining)} + {finetuning}"


# In names, {baseline} is the baseline's.
COLUMNS: list[Column[MeasuredArm]] = [
    Column("arm", lambda arm: arm.name),
    Column(
        "top-1", lambda arm: Bold(f"{arm.top1.mean:.2f}"), unit="%", description="mean over seeds"
    ),
    Column("pretrain", _pretraining, description="weights after pretraining"),
    Column("finetune", _finetunings, description="finetuned weights of each seed"),
    Column("n", lambda arm: str(arm.top1.n), description="number of seeds"),
    Column(
        "sd",
        lambda arm: "-" if arm.top1.deviation is None else f"{arm.top1.deviation:.2f}",
        description="sample standard deviation over seeds",
    ),
    Column("95% interval", lambda arm: interval(arm.top1), description="t interval of the mean"),
    Column(
        "difference from {baseline}",
        lambda arm: "-" if arm.difference is None else f"{arm.difference.mean:+.2f}",
        description="in points",
    ),
    Column(
        "95% interval of the difference",
        lambda arm: "-" if arm.difference is None else interval(arm.difference, sign="+"),
    ),
    Column("verdict", lambda arm: "baseline" if arm.difference is None else arm.difference.verdict),
    Column("epochs", _epochs, description="of pretraining + one finetuning"),
    Column(
        "images/s",
        lambda arm: f"{arm.rows['images_per_second'].median():.0f}",
        description="median of the finetuning epochs, all processes together",
    ),
    Column("training time", _time, description="of pretraining + one finetuning"),
]
