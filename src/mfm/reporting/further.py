"""Page of a further evaluation: the arms compared on each of its measures, without verdicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd

from mfm.evaluation import further_evaluations
from mfm.evaluation.further import Measure
from mfm.experiment.layout import Layout
from mfm.experiment.resolve import finetunings
from mfm.experiment.settings import Experiment
from mfm.reporting.document import Bullets, Column, Paragraph, Section, Table
from mfm.reporting.verdict import sample_of
from mfm.reporting.words import interval, points
from mfm.statistics.over_seeds import Difference, Estimate, difference, estimate
from mfm.statistics.units import Sample


def collect(experiment: Experiment, name: str) -> pd.DataFrame:
    """The rows of every finetuned model: arm, seed, and a column for each measure."""
    layout = Layout(experiment.results)
    paths = [layout.evaluation(arm, seed, name=name).row for arm, seed in finetunings(experiment)]
    return pd.concat([pd.read_csv(path) for path in paths], ignore_index=True)


@dataclass(frozen=True, kw_only=True)
class MeasuredArm:
    """An arm's rows, and the baseline's."""

    name: str
    experiment: Experiment
    rows: pd.DataFrame
    baseline: pd.DataFrame | None  # None for the baseline itself, and where it has no rows

    def sample(self, measure: str) -> Sample:
        """Its values, with the pretrainings that they rest on."""
        return sample_of(self.experiment, self.name, self.rows, measure)

    def estimate(self, measure: str) -> Estimate:
        """Mean over pretrainings or seeds, as in the table."""
        return estimate(self.sample(measure))

    def difference(self, measure: str) -> Difference | None:
        """From the baseline, paired as in the table."""
        if self.baseline is None:
            return None
        base = sample_of(self.experiment, self.experiment.baseline, self.baseline, measure)
        return difference(self.sample(measure), base)


def measured_arms(experiment: Experiment, rows: pd.DataFrame) -> list[MeasuredArm]:
    """The arms that have rows, in the configuration's order."""
    parts = {str(arm): part for arm, part in rows.groupby("arm", sort=False)}
    base = experiment.baseline
    return [
        MeasuredArm(
            name=arm,
            experiment=experiment,
            rows=parts[arm],
            baseline=None if arm == base else parts.get(base),
        )
        for arm in experiment.arms
        if arm in parts
    ]


def document(experiment: Experiment, name: str, rows: pd.DataFrame) -> Section:
    """The page; a group of columns for each measure."""
    settings = further_evaluations(experiment.evaluate)[name]
    measures, base = settings.measures(), experiment.baseline
    arms = measured_arms(experiment, rows)
    columns: list[Column[MeasuredArm]] = [
        Column("arm", lambda arm: arm.name),
        Column("n", lambda arm: str(len(arm.rows)), description="number of finetunings"),
    ]
    for measure in measures:
        columns += _columns(measure, base)
    return Section(
        f"{experiment.model.backbone} on {experiment.dataset.name}: {settings.title}",
        [
            Paragraph(
                "Mean of each finetuned arm with its 95% interval, and the difference from "
                f"'{base}' with its own, computed as in table.md. None of "
                "these comparisons was declared as the question, so there are no verdicts."
            ),
            Table(columns, arms),
            Bullets([f"{one.title}: {one.description}." for one in measures if one.description]),
        ],
    )


def _columns(measure: Measure, baseline: str) -> list[Column[MeasuredArm]]:
    name = measure.name

    def of_difference(form: Callable[[Difference], str]) -> Callable[[MeasuredArm], str]:
        def cell(arm: MeasuredArm) -> str:
            found = arm.difference(name)
            return "-" if found is None else form(found)

        return cell

    return [
        Column(
            measure.title,
            lambda arm: f"{arm.estimate(name).mean:z.2f}",
            unit=measure.unit,
            description=measure.description,
        ),
        Column("95% interval", lambda arm: interval(arm.estimate(name))),
        Column(f"less {baseline}", of_difference(lambda found: points(found.mean))),
        Column("95% interval of it", of_difference(lambda found: interval(found, sign="+"))),
    ]
