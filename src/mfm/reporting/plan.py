"""Plan: how many seeds would resolve which difference, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mfm.experiment.layout import locate
from mfm.experiment.resolve import seeds_of
from mfm.experiment.settings import Experiment
from mfm.reporting.document import Block, Bullets, Column, Paragraph, Section, Table
from mfm.reporting.verdict import Comparison, against_baseline
from mfm.reporting.words import hours
from mfm.statistics.over_seeds import LEVEL
from mfm.statistics.power import MOST, deviation_interval, smallest_difference, units_needed

POINTS = (0.1, 0.2, 0.5, 1.0)
# Standard deviations of one seed's difference between two arms, in points, that were seen.
ASSUMED = (
    (
        0.12,
        "ImageNet, ResNet-50, all labels: upstream's 12 MFM runs have 0.085, two arms 1.4 times it",
    ),
    (0.75, "Fashion-MNIST, ResNet-18, 25 labelled images a class: 0.6 to 0.9 here"),
    (1.7, "Fashion-MNIST, ResNet-18, 10 labelled images a class: 0.6 to 1.7 here"),
)


@dataclass(frozen=True, kw_only=True)
class Need:
    """What it takes to find a difference of `points` between two arms."""

    points: float
    pairs: int  # of seeds, in all
    runs: tuple[int, int]  # more finetunings of the arm, and of the other
    seconds: float  # of those runs


def needs(found: Comparison, seconds: Mapping[str, float]) -> list[Need]:
    """For each of POINTS, from the measured spread; none where it was not measured.

    `seconds` are those of one finetuning and its evaluation, by arm.
    """
    deviation = found.difference.deviation
    if not deviation:
        return []
    all_needs = []
    for points in POINTS:
        pairs = units_needed(points, deviation, level=found.level) or MOST
        runs = (max(0, pairs - found.seeds[0]), max(0, pairs - found.seeds[1]))
        cost = runs[0] * seconds[found.arm] + runs[1] * seconds[found.other]
        all_needs.append(Need(points=points, pairs=pairs, runs=runs, seconds=cost))
    return all_needs


def sentence(found: Comparison, seconds: Mapping[str, float]) -> str:
    """How many more seeds would resolve what, in one sentence; '' where nothing was measured."""
    each = [
        f"{need.points:g}: {max(need.runs):,} more ({hours(need.seconds)})"
        if max(need.runs)
        else f"{need.points:g}: none more"
        for need in needs(found, seconds)
    ]
    if not each:
        return ""
    return f"Seeds to find a true difference of so many points with 80% power: {'; '.join(each)}."


def run_seconds(results: pd.DataFrame) -> dict[str, float]:
    """Mean time of one finetuning and its evaluation, by arm.

    The evaluation's is in the job's benchmark file, and left out where that is not there.
    """
    times: dict[str, list[float]] = {}
    for row in results.to_dict("records"):
        model = locate(str(row["checkpoint"]))
        evaluation = 0.0
        if model is not None and Path(model.evaluation.benchmark).exists():
            evaluation = float(pd.read_csv(model.evaluation.benchmark, sep="\t")["s"].mean())
        times.setdefault(str(row["arm"]), []).append(float(row["seconds"]) + evaluation)
    return {name: sum(values) / len(values) for name, values in times.items()}


def document(experiment: Experiment, results: pd.DataFrame) -> Section:
    """The plan, from the runs that are finished; `results` may have no rows."""
    compared = [name for name in experiment.arms if name != experiment.baseline]
    level = 1 - (1 - LEVEL) / max(1, len(compared))
    at = (
        f"At level {1 - level:.3g}: {len(compared)} arms are compared with "
        f"'{experiment.baseline}', and Holm's correction may ask that much."
        if len(compared) > 1
        else f"At level {1 - level:.2g}."
    )
    blocks: list[Block] = [
        Paragraph(
            "How many seed pairs (the same seed in two arms) the paired t test needs to find a "
            "true difference with a probability of 80% (its power), by the noncentral t "
            f"distribution. {at}"
        )
    ]
    seconds = run_seconds(results)
    measured = [
        each for each in against_baseline(experiment, results, {}) if each.difference.deviation
    ]
    if measured:
        blocks.append(_measured(measured, seconds))
    if len(measured) < len(compared):
        missing = [name for name in compared if name not in {each.arm for each in measured}]
        blocks.append(_assumed(experiment, missing, seconds, level))
    return Section(
        f"{experiment.model.backbone} on {experiment.dataset.name}: how many seeds?", blocks
    )


@dataclass(frozen=True, kw_only=True)
class _Planned:
    """A comparison, and what it takes to find one difference in it."""

    found: Comparison
    need: Need

    @property
    def deviation(self) -> float:
        deviation = self.found.difference.deviation
        assert deviation is not None
        return deviation

    @property
    def deviations(self) -> tuple[float, float]:
        """Its interval."""
        freedom = self.found.difference.freedom
        assert freedom is not None
        return deviation_interval(self.deviation, freedom)

    @property
    def found_now(self) -> float:
        now = self.found.difference.n
        return smallest_difference(now, self.deviation, level=self.found.level)

    @property
    def pairs(self) -> list[int]:
        """Seed pairs at the ends of the deviation's interval."""
        level = self.found.level
        return [units_needed(self.need.points, end, level=level) or MOST for end in self.deviations]

    @property
    def more(self) -> str:
        arms = (self.found.arm, self.found.other)
        counts = zip(self.need.runs, arms, strict=True)
        return " + ".join(f"{count:,} of {name}" for count, name in counts if count)


MEASURED: list[Column[_Planned]] = [
    Column("comparison", lambda one: f"{one.found.arm} less {one.found.other}"),
    Column("seed pairs now", lambda one: str(one.found.difference.n)),
    Column("sd of a seed's difference", lambda one: f"{one.deviation:.2f}"),
    Column("its 95% interval", lambda one: "{:.2f} to {:.2f}".format(*one.deviations)),
    Column("found now with 80%", lambda one: f"{one.found_now:.2f}"),
    Column("to find", lambda one: f"{one.need.points:g}"),
    Column("seed pairs", lambda one: f"{one.need.pairs:,}"),
    Column("for the sd's interval", lambda one: "{:,} to {:,}".format(*one.pairs)),
    Column("more runs", lambda one: one.more or "none"),
    Column("cost", lambda one: hours(one.need.seconds) if one.more else "-"),
]


def _measured(found: list[Comparison], seconds: Mapping[str, float]) -> Section:
    rows = [_Planned(found=each, need=need) for each in found for need in needs(each, seconds)]
    return Section(
        "From the runs here",
        [
            Table(MEASURED, rows),
            Bullets(
                [
                    "All in points of top-1. The sd is that of the finished seeds; from so few it "
                    "is only known to within its interval, and so are the seeds.",
                    "Cost: the finetunings and evaluations at their mean times here, one after the "
                    "other. Pretraining is not repeated. Runs of the baseline are counted in each "
                    "comparison, and serve them all. Arms whose seeds do not pair are planned as "
                    "if new seeds did.",
                ]
            ),
        ],
    )


def _assumed(
    experiment: Experiment, missing: list[str], seconds: Mapping[str, float], level: float
) -> Section:
    seeds = min(len(seeds_of(experiment, name)) for name in (*missing, experiment.baseline))

    def needed(points: float) -> Column[tuple[float, str]]:
        return Column(
            f"{points:g} points",
            lambda row: f"{units_needed(points, row[0], level=level) or MOST:,}",
        )

    def least(row: tuple[float, str]) -> str:
        if seeds < 2:
            return "-"
        return f"{smallest_difference(seeds, row[0], level=level):.2f} points"

    columns: list[Column[tuple[float, str]]] = [
        Column("assumed sd of a seed's difference", lambda row: f"{row[0]:g}"),
        Column("seen in", lambda row: row[1]),
        *(needed(points) for points in POINTS),
        Column(f"found with the {seeds} seeds configured", least),
    ]
    note = (
        "Cost: unknown, since no run has finished here. A seed pair is a finetuning and an "
        "evaluation of each arm; pretraining is not repeated."
    )
    if seconds:
        known = ", ".join(f"{name} {hours(value)}" for name, value in seconds.items())
        note = f"One finetuning with its evaluation took, on average: {known}."
    return Section(
        "Before there are runs",
        [
            Paragraph(
                f"Nothing is measured yet for {', '.join(missing)} against "
                f"{experiment.baseline}. The spread over seeds is assumed, in points of top-1: "
                "look for the row that is most like your data. Seed pairs by the difference to "
                "find:"
            ),
            Table(columns, ASSUMED),
            Bullets([note]),
        ],
    )
