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
from mfm.reporting.words import interval
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
    rows: pd.DataFrame
    baseline: pd.DataFrame | None  # None for the baseline itself, and where it has no rows

    def estimate(self, measure: str) -> Estimate:
        """Mean over seeds."""
        return estimate(_by_seed(self.rows, measure))

    def difference(self, measure: str) -> Difference | None:
        """From the baseline, paired by seed as in the table."""
        if self.baseline is None:
            return None
        return difference(_by_seed(self.rows, measure), _by_seed(self.baseline, measure))


def _by_seed(rows: pd.DataFrame, measure: str) -> Sample:
    pairs = zip(rows["seed"], rows[measure], strict=True)
    return Sample(values={int(seed): float(value) for seed, value in pairs})


def document(experiment: Experiment, name: str, rows: pd.DataFrame) -> Section:
    """The page; a group of columns for each measure."""
    settings = further_evaluations(experiment.evaluate)[name]
    measures, base = settings.measures(), experiment.baseline
    parts = {str(arm): part for arm, part in rows.groupby("arm", sort=False)}
    arms = [
        MeasuredArm(name=arm, rows=parts[arm], baseline=None if arm == base else parts.get(base))
        for arm in experiment.arms
        if arm in parts
    ]
    columns: list[Column[MeasuredArm]] = [
        Column("arm", lambda arm: arm.name),
        Column("n", lambda arm: str(len(arm.rows)), description="number of seeds"),
    ]
    for measure in measures:
        columns += _columns(measure, base)
    return Section(
        f"{experiment.model.backbone} on {experiment.dataset.name}: {settings.title}",
        [
            Paragraph(
                "Mean over the seeds of each finetuned arm with its 95% interval, and the "
                f"difference from '{base}' with its own, paired by seed as in table.md. None of "
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
            lambda arm: f"{arm.estimate(name).mean:.2f}",
            unit=measure.unit,
            description=measure.description,
        ),
        Column("95% interval", lambda arm: interval(arm.estimate(name))),
        Column(f"less {baseline}", of_difference(lambda found: f"{found.mean:+.2f}")),
        Column("95% interval of it", of_difference(lambda found: interval(found, sign="+"))),
    ]
