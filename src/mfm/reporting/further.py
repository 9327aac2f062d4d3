"""Page of a further evaluation: the arms compared on its measures, without verdicts."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from mfm.evaluation import further_evaluations
from mfm.evaluation.further import Measure
from mfm.experiment.layout import Layout
from mfm.experiment.resolve import finetunings
from mfm.experiment.settings import Experiment
from mfm.reporting import words
from mfm.reporting.document import (
    Block,
    Bullets,
    Code,
    Column,
    Paragraph,
    Picture,
    Section,
    Table,
    Text,
)
from mfm.reporting.verdict import sample_of
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
    base = experiment.baseline
    parts = {str(arm): part for arm, part in rows.groupby("arm", sort=False)}
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
    """The page: a line for each measure, a column for each arm; figures where there are some."""
    settings = further_evaluations(experiment.evaluate)[name]
    arms, layout = measured_arms(experiment, rows), Layout(experiment.results)
    measures = [measure for measure in settings.measures() if measure.in_table]
    compared = [arm for arm in arms if arm.baseline is not None]
    blocks: list[Block] = [
        Paragraph(
            "Mean of each finetuned arm, over n finetunings, with its 95% interval, computed as in "
            "table.md. None of these comparisons was declared as the question, so there are no "
            "verdicts."
        ),
        Table([_MEASURE, *map(_mean_of, arms)], measures),
    ]
    if compared:
        less = f"Difference from '{experiment.baseline}', paired as in table.md:"
        blocks += [Paragraph(less), Table([_MEASURE, *map(_difference_of, compared)], measures)]
    blocks += [
        Picture(layout.relative(layout.figure(figure)), spec.caption)
        for figure, spec in settings.figures().items()
    ]
    said: list[Text] = [f"{one.title}: {one.description}." for one in measures if one.description]
    if len(measures) < len(settings.measures()):
        file = f"{settings.page or name}.csv"
        said.append(("Every single number of every finetuning: ", Code(file), "."))
    return Section(
        f"{experiment.model.backbone} on {experiment.dataset.name}: {settings.title}",
        [*blocks, Bullets(said)],
    )


_MEASURE: Column[Measure] = Column(
    "measure", lambda one: f"{one.title} ({one.unit})" if one.unit else one.title
)


def _mean_of(arm: MeasuredArm) -> Column[Measure]:
    def cell(measure: Measure) -> Text:
        found = arm.estimate(measure.name)
        if measure.unit == "%":
            return words.percentage(found)
        return words.number(found)

    return Column(arm.name, cell, unit=f"n = {len(arm.rows)}")


def _difference_of(arm: MeasuredArm) -> Column[Measure]:
    def cell(measure: Measure) -> Text:
        found = arm.difference(measure.name)
        return "-" if found is None else words.difference(found)

    return Column(arm.name, cell)
