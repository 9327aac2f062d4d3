"""Columns of the table's measured rows. A column is one entry of COLUMNS."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import pandas as pd

from mfm.experiment.arms import FromWeights
from mfm.experiment.jobs import split_of
from mfm.experiment.resolve import longer_arms, pretraining_of
from mfm.reporting import cost, floors, measure
from mfm.reporting.document import Bold, Column, Link, Text
from mfm.reporting.finished import Finished
from mfm.reporting.floors import Floor
from mfm.reporting.initial_weights import trained_on
from mfm.reporting.measure import Measure
from mfm.reporting.verdict import Comparison, between, sample_of
from mfm.reporting.words import percentage
from mfm.statistics.over_seeds import Estimate, estimate


@dataclass(frozen=True, kw_only=True)
class MeasuredArm:
    """An arm, its runs, and what it was compared with."""

    name: str
    found: Finished
    compared: Sequence[Comparison]

    @property
    def rows(self) -> pd.DataFrame:
        """Of results.csv."""
        return self.found.arms[self.name]

    @property
    def measure(self) -> Measure:
        """What the table is about."""
        return measure.asked(self.found.experiment)

    @cached_property
    def estimate(self) -> Estimate:
        """Of that, over its pretrainings, or its seeds."""
        experiment = self.found.experiment
        return estimate(sample_of(experiment, self.name, self.rows, self.measure.name))

    @property
    def pretraining(self) -> str | None:
        """The name of the one that it starts from."""
        return pretraining_of(self.found.experiment, self.name)

    @property
    def from_baseline(self) -> Comparison | None:
        """None for the baseline itself."""
        return between(self.compared, self.name, self.found.experiment.baseline)

    @property
    def at_equal_cost(self) -> Comparison | None:
        """With the arm from scratch that is trained as long; None where there is none."""
        for longer, other in longer_arms(self.found.experiment).items():
            if other == self.name:
                return between(self.compared, self.name, longer)
        return None


def _name(arm: MeasuredArm) -> Text:
    """With what its weights were trained on, and a flag where the arm is below a floor."""
    labels, experiment = "", arm.found.experiment
    seen = trained_on(arm.rows) if arm.pretraining is None else []
    if seen:
        labels = f" ({'; '.join(seen)})"
    training = experiment.pretrain[arm.pretraining] if arm.pretraining is not None else None
    if training is not None and training.labelled:
        split = arm.found.summary["splits"][split_of(training, experiment.dataset)]
        labels = f" (all {int(split['images']):,} labels)"
    if arm.name not in floors.below(arm.found):
        return f"{arm.name}{labels}"
    return (f"{arm.name}{labels}, ", Bold("below a floor"))


def _measured(arm: MeasuredArm) -> Text:
    return arm.measure.estimate(arm.estimate)


def _difference(arm: MeasuredArm) -> str:
    one = arm.from_baseline
    return "-" if one is None else arm.measure.difference(one.difference)


def _verdict(arm: MeasuredArm) -> str:
    if arm.name == arm.found.experiment.baseline:
        return "baseline"
    return "-" if arm.from_baseline is None else arm.from_baseline.difference.verdict


def _at_equal_cost(arm: MeasuredArm) -> str:
    one = arm.at_equal_cost
    if one is None:
        return "-"
    return f"{arm.measure.difference(one.difference)}: {one.difference.verdict}"


def _runs(arm: MeasuredArm) -> str:
    source = arm.found.experiment.arms[arm.name]
    if not isinstance(source, FromWeights) or source.weights is not None:
        given = "given" if isinstance(source, FromWeights) else "none"
        return f"{given} x {len(arm.rows)}"
    counts = sorted(Counter(arm.rows["pretraining_seed"]).values())
    each = f"{counts[0]} to {counts[-1]}" if counts[0] != counts[-1] else f"{counts[0]}"
    return f"{len(counts)} x {each}"


def _cost(arm: MeasuredArm) -> str:
    return cost.times(arm.found, arm.name)


# In names, {baseline} is the baseline's, {metric} and {points} what is measured.
COLUMNS: list[Column[MeasuredArm]] = [
    Column("arm", _name),
    Column(
        "{metric} (95% interval)", _measured,
        description="of the last epoch, mean over pretrainings or seeds",
    ),
    Column("less {baseline} (95% interval)", _difference, description="difference{points}"),
    Column("verdict", _verdict, description="on the difference from {baseline}"),
    Column(
        "less scratch trained as long", _at_equal_cost, description="difference at equal cost",
    ),
    Column(
        "pretrainings x finetunings", _runs, description="finetunings of each pretraining",
    ),
    Column(
        "cost", _cost, unit="times {baseline}",
        description="training time of a pretraining and a finetuning",
    ),
]  # fmt: skip


def columns(found: Finished) -> list[Column[MeasuredArm | Floor]]:
    """Those that say something in this experiment, for its arms and floors."""
    return [_for_floors_too(column) for column in _shown(found)]


def _shown(found: Finished) -> list[Column[MeasuredArm]]:
    equal, asked = bool(longer_arms(found.experiment)), measure.asked(found.experiment)
    words = {
        "baseline": found.experiment.baseline,
        "metric": ", ".join(each for each in (asked.head, asked.better) if each),
        "points": " in points" if asked.metric.share else "",
    }
    return [column.of(**words) for column in COLUMNS if equal or column.cell is not _at_equal_cost]


# What a reader of ten seconds looks at.
_SHORT = (_name, _measured, _difference, _verdict, _cost)


def in_two(
    found: Finished, primary: Comparison | None
) -> tuple[list[Column[MeasuredArm]], list[Column[MeasuredArm]]]:
    """The columns of a short table, and the arm's name with the others.

    What is of the primary comparison links to where a page opens with it.
    """
    short, others = [], []
    for column in _shown(found):
        shown = _once(column, primary)
        if column.cell in _SHORT:
            short.append(shown)
        if column.cell is _name or column.cell not in _SHORT:
            others.append(shown)
    return short, others


def _once(column: Column[MeasuredArm], primary: Comparison | None) -> Column[MeasuredArm]:
    """With a link to what the page opens with in place of its numbers."""

    def cell(arm: MeasuredArm) -> Text:
        if primary is not None and arm.name == primary.arm:
            compared = arm.at_equal_cost if column.cell is _at_equal_cost else arm.from_baseline
            of_it = column.cell in (_difference, _cost, _at_equal_cost)
            if of_it and compared is not None and compared.other == primary.other:
                return Link("see above", "#answer")
        return column.cell(arm)

    return replace(column, cell=cell)


def _for_floors_too(column: Column[MeasuredArm]) -> Column[MeasuredArm | Floor]:
    def cell(row: MeasuredArm | Floor) -> Text:
        if isinstance(row, MeasuredArm):
            return column.cell(row)
        if column.cell is _name:
            return f"floor: {row.name}"
        return percentage(row.top1) if column.cell is _measured else "-"

    return Column(column.name, cell, unit=column.unit, description=column.description)
