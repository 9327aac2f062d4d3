"""Plan: what more finetunings and what more pretrainings would find, and what they cost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from pathlib import Path

import pandas as pd

from mfm.evaluation.metrics import TOP1
from mfm.experiment.layout import Layout, locate
from mfm.experiment.resolve import asked, pretraining_of, pretrainings, seeds_of
from mfm.experiment.settings import Experiment
from mfm.reporting import measure
from mfm.reporting.document import Block, Bullets, Column, Paragraph, Section, Table
from mfm.reporting.measure import Measure
from mfm.reporting.verdict import Comparison, compare, pairs
from mfm.reporting.words import hours, listed
from mfm.statistics.over_seeds import LEVEL
from mfm.statistics.planned import judge
from mfm.statistics.power import (
    MOST,
    Components,
    components,
    deviation_interval,
    fewest,
    smallest_difference,
    units_needed,
)
from mfm.statistics.units import paired

POINTS = (0.2, 0.5, 1.0)
# Standard deviations of one seed's difference between two arms, in points, that were seen.
ASSUMED = (
    (
        0.127,
        "ImageNet, ResNet-50, all labels: upstream's 12 MFM runs have 0.090, two arms 1.4 times it",
    ),
    (0.8, "Fashion-MNIST, small ResNets, 25 labelled images a class: 0.6 to 1.0 here"),
    (1.7, "Fashion-MNIST, ResNet-18, 10 labelled images a class: 0.6 to 1.7 here"),
)


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """Mean times by arm: of a finetuning with its evaluation, and of a pretraining."""

    finetuning: Mapping[str, float]
    pretraining: Mapping[str, float]  # of arms that start from one of this workflow


@dataclass(frozen=True, kw_only=True)
class Design:
    """A number of pretrainings and finetunings of each arm, and what it finds."""

    name: str
    pretrainings: int  # 0: none, so that seed pairs are all there is
    finetunings: int | None  # of all of them; None for more than can be planned
    finds: float | None  # points, with a probability of 80%; None where that is not known
    units: int

    @property
    def size(self) -> str:
        """Pretrainings by finetunings of each, or seed pairs."""
        if self.finetunings is None:
            return f"more than {MOST:,} {'pretrainings' if self.pretrainings > 1 else 'pairs'}"
        if not self.pretrainings:
            return f"{self.finetunings:,} pairs"
        return f"{self.pretrainings:,} x {self.finetunings / self.pretrainings:.3g}"


@dataclass(frozen=True, kw_only=True)
class Planned:
    """A comparison that was made, and what more of it would find."""

    experiment: Experiment
    found: Comparison
    seconds: Seconds

    @cached_property
    def pretrainings(self) -> int:
        """Units that are pretrainings; 1 where all is given one, 0 where there is none."""
        each = self.found.difference
        if each.conditional:
            return 1
        return each.units if any(one.pretrainings for one in self.found.samples) else 0

    @cached_property
    def components(self) -> Components | None:
        """Variances between and within pretrainings, where several pair."""
        units, (arm, other) = paired(*self.found.samples), self.found.samples
        if units is None or self.pretrainings < 2:
            return None
        gaps = {seed: arm.values[seed] - other.values[seed] for seed in units.seeds}
        return components(units.groups(gaps))

    @property
    def deviation(self) -> float:
        """Of one unit's difference."""
        assert self.found.difference.deviation is not None
        return self.found.difference.deviation

    @property
    def measure(self) -> Measure:
        """What is compared."""
        return measure.asked(self.experiment)

    def designs(self) -> Iterator[Design]:
        """What there is, more finetunings, more pretrainings, and what finds how much."""
        each, count = self.found.difference, self.pretrainings
        yield self._design("now", count, each.n)
        yield self._design("twice the finetunings", count, 2 * each.n)
        if any(pretraining_of(self.experiment, arm) for arm in (self.found.arm, self.found.other)):
            more = max(2 * count, fewest(self.found.level))
            total = more * ceil(each.n / more)
            yield self._design("more pretrainings", more, total, known=count > 1)
        for points in self._points():
            yield from self._for(points)

    def _design(self, name: str, count: int, total: int, *, known: bool = True) -> Design:
        units = count if count > 1 else total
        deviation = self._deviation_of(count, total) if known else None
        finds = None
        if deviation is not None:
            finds = self._finds(units, deviation)
        return Design(name=name, pretrainings=count, finetunings=total, finds=finds, units=units)

    def _finds(self, units: int, deviation: float) -> float:
        return smallest_difference(units, deviation, level=self.found.level)

    def _deviation_of(self, count: int, total: int) -> float | None:
        """That of a unit of so many pretrainings and finetunings; None where it can't be told."""
        each, parts = self.found.difference, self.components
        if count < 2 or (parts is None and (count, total) == (each.units, each.n)):
            return self.deviation
        if parts is None or (parts.within is None and total != count):
            return None
        return parts.deviation(total / count)

    def _points(self) -> tuple[float, ...]:
        """Differences to find: the question's, where one is declared."""
        question = self.experiment.question
        if question is None or (self.found.primary and question.difference is None):
            return POINTS if self.measure.metric.share else tuple(each / 100 for each in POINTS)
        return (question.difference or 0.0,) if self.found.primary else ()

    def _for(self, points: float) -> Iterator[Design]:
        """What finds a difference of so many points, where that is more than there is."""
        each, count = self.found.difference, self.pretrainings
        runs = ceil(each.n / count) if count > 1 else 1
        deviation = self._deviation_of(count, count * runs)
        if deviation is None:
            return
        units = units_needed(points, deviation, level=self.found.level)
        if units is not None and units <= each.units:
            return
        yield Design(
            name=f"to find {points:g}",
            pretrainings=(units or MOST) if count > 1 else count,
            finetunings=None if units is None else units * runs,
            finds=None if units is None else self._finds(units, deviation),
            units=units or MOST,
        )

    def more(self, design: Design) -> dict[str, tuple[int, int]]:
        """Pretrainings and finetunings that a design has more, by arm.

        A finetuning is run again where its seed starts from another of more pretrainings.
        """
        found = {}
        for arm, sample in zip((self.found.arm, self.found.other), self.found.samples, strict=True):
            new, kept = 0, len(sample.values)
            if sample.pretrainings is not None and pretraining_of(self.experiment, arm):
                count = len(set(sample.pretrainings.values()))
                wanted = max(count, design.pretrainings)
                new = wanted - count
                kept = sum(seed % count == seed % wanted for seed in sample.values)
            found[arm] = (new, max(0, (design.finetunings or 0) - kept))
        return found

    def cost(self, design: Design) -> float | None:
        """Seconds of what a design has more; None where they are not known."""
        total = 0.0
        for arm, (new, runs) in self.more(design).items():
            if new and arm not in self.seconds.pretraining:
                return None
            total += new * self.seconds.pretraining.get(arm, 0.0)
            total += runs * self.seconds.finetuning[arm]
        return total


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


def pretraining_seconds(experiment: Experiment) -> dict[str, float]:
    """Mean time of one pretraining, by the arm that starts from it, of those that are here."""
    layout, times = Layout(experiment.results), dict[str, list[float]]()
    for name, seed in pretrainings(experiment):
        path = Path(layout.pretraining(name, seed).metrics)
        if path.exists():
            times.setdefault(name, []).append(float(pd.read_csv(path)["seconds"].sum()))
    names = {arm: pretraining_of(experiment, arm) for arm in experiment.arms}
    return {
        arm: sum(times[name]) / len(times[name])
        for arm, name in names.items()
        if name is not None and name in times
    }


def document(experiment: Experiment, results: pd.DataFrame, *, found_now: bool = True) -> Section:
    """The plan, from the runs that are finished; `results` may have no rows.

    Without `found_now` it is for a page that has the differences elsewhere.
    """
    seconds = Seconds(finetuning=run_seconds(results), pretraining=pretraining_seconds(experiment))
    found = [each for each in compare(experiment, results) if each.difference.deviation]
    planned = [Planned(experiment=experiment, found=each, seconds=seconds) for each in found]
    done = [{each.arm, each.other} for each in found]
    missing = [pair for pair in pairs(experiment, experiment.arms) if set(pair) not in done]
    blocks: list[Block] = [
        Paragraph(
            "Which differences the runs find, and what more would. Found means with a probability "
            "of 80%."
        ),
        *(_section(each, found_now) for each in planned),
    ]
    if planned:
        blocks.append(Bullets(_NOTES))
    if missing:
        blocks.append(_assumed(experiment, missing, seconds))
    return Section(
        f"{experiment.model.backbone} on {experiment.dataset.name}: how many runs?", blocks
    )


_NOTES = (
    f"'better' and 'worse' take {fewest()} units, and more where a comparison is one of several. "
    "With fewer, a difference is found by the t test alone, and is suggestive.",
    "A unit is a pretraining, with the mean of its finetunings. Given a single one, and from "
    "scratch, it is a seed pair.",
    "Cost: at the mean times here, one run after the other. The baseline's runs are counted in "
    "each comparison, and serve them all. With more pretrainings, a finetuning whose seed starts "
    "from another one is run again.",
    "The standard deviation comes from the finished runs, and from few it is hardly known.",
)


_OF_SEVERAL = (
    "Of several pretrainings an arm, these are the numbers of finetunings where pretrainings don't "
    "differ, and of pretrainings where nothing else does."
)


def _section(planned: Planned, found_now: bool) -> Section:
    found = planned.found
    asked_here = " (the question)" if found.primary else ""
    its = planned.measure
    now = f"Found now: {its.difference(found.difference)} {its.unit}, {found.difference.verdict}."
    return Section(
        f"{found.arm} less {found.other}{asked_here}",
        [
            *([Paragraph(now)] if found_now else []),
            _table(planned),
            Bullets(list(_spread(planned))),
        ],
    )


def _table(planned: Planned) -> Table[Design]:
    level = planned.found.level

    def finds(design: Design) -> str:
        return "not known" if design.finds is None else planned.measure.deviation(design.finds)

    def word(design: Design) -> str:
        return "better, worse" if design.units >= fewest(level) else "suggestive"

    def more(design: Design) -> str:
        parts, wanted = [], planned.more(design)
        (new, runs), *others = wanted.values()
        if others == [(new, runs)] and runs and not new:
            return f"{runs:,} finetuning{'s' * (runs != 1)} of each"
        for arm, counts in wanted.items():
            kinds = zip(counts, ("pretraining", "finetuning"), strict=True)
            words = [f"{count:,} {what}{'s' * (count != 1)}" for count, what in kinds if count]
            parts += [f"{listed(words)} of {arm}"] if words else []
        return "; ".join(parts) if parts and design.finetunings else "-"

    def cost(design: Design) -> str:
        if design.finetunings is None or not any(map(sum, planned.more(design).values())):
            return "-"
        seconds = planned.cost(design)
        return "not known" if seconds is None else hours(seconds)

    columns: list[Column[Design]] = [
        Column("", lambda design: design.name),
        Column("pretrainings x finetunings", lambda design: design.size),
        Column("finds", finds, unit="points" if planned.measure.metric.share else ""),
        Column("word at most", word),
        Column("more runs", more),
        Column("cost", cost),
    ]
    return Table(columns, list(planned.designs()))


def _spread(planned: Planned) -> Iterator[str]:
    """What the spread is, and what is not in it."""
    each = planned.found.difference
    assert each.freedom is not None
    low, high = deviation_interval(planned.deviation, each.freedom)
    shown = planned.measure.deviation
    several = planned.pretrainings > 1
    unit = "pretraining's" if several else "seed pair's"
    yield (
        f"Standard deviation of one {unit} difference: {shown(planned.deviation)}. Its 95% "
        f"interval: {shown(low)} to {shown(high)}."
    )
    parts = planned.components
    if parts is not None and parts.within is not None:
        yield (
            f"Between pretrainings it is {shown(parts.between**0.5)}, which only more of them "
            f"reduce; between the finetunings of one {shown(parts.within**0.5)}."
        )
    elif several:
        yield "No pretraining has two finetunings that pair: what more of them bring is not known."
    if planned.pretrainings == 1:
        yield "Other pretrainings were not sampled: all of this is given the one there is."
    if each.method == "welch":
        yield "The arms' runs do not pair; it is planned as if new ones did."


def _assumed(experiment: Experiment, missing: list[tuple[str, str]], seconds: Seconds) -> Section:
    seeds = min(len(seeds_of(experiment, arm)) for pair in missing for arm in pair)
    question = experiment.question
    alone = question is not None and (question.arm, question.baseline) in missing
    level = LEVEL if alone else 1 - (1 - LEVEL) / len(pairs(experiment, experiment.arms))

    def needed(points: float) -> Column[tuple[float, str]]:
        def cell(row: tuple[float, str]) -> str:
            units = units_needed(points, row[0], level=level)
            return f"more than {MOST:,}" if units is None else f"{units:,}"

        return Column(f"{points:g} points", cell)

    def least(row: tuple[float, str]) -> str:
        return "-" if seeds < 2 else f"{smallest_difference(seeds, row[0], level=level):.2f}"

    columns: list[Column[tuple[float, str]]] = [
        Column("assumed sd of a seed pair's difference", lambda row: f"{row[0]:g}"),
        Column("seen in", lambda row: row[1]),
        *(needed(points) for points in POINTS),
        Column(f"found with {seeds} pairs", least, unit="points"),
    ]
    its = measure.asked(experiment)
    known = [f"{name} {hours(value)}" for name, value in seconds.finetuning.items()]
    notes = [
        f"One finetuning with its evaluation took, on average: {', '.join(known)}."
        if known
        else "Cost: not known, since no run has finished here.",
    ]
    if alone and question is not None:
        numbers = asked(experiment)
        said = judge(
            runs=int(numbers["runs"]),
            pretrainings=int(numbers["pretrainings"]),
            difference=question.difference,
            deviation=question.deviation,
            unit=its.unit,
        )
        notes.insert(0, f"The question: {said}.")
    compared = ", ".join(f"{arm} less {other}" for arm, other in missing)
    if its.name != TOP1:
        told = f"No spread is known yet of {compared}, and of {its.title} none was seen elsewhere."
        return Section("Before there are runs", [Paragraph(told), Bullets(notes)])
    return Section(
        "Before there are runs",
        [
            Paragraph(
                f"No spread is known yet of {compared}. It is assumed: look for the row "
                "that is most like your data. Seed pairs by the difference to find:"
            ),
            Table(columns, ASSUMED),
            Bullets([*notes[:-1], _OF_SEVERAL, notes[-1]]),
        ],
    )
