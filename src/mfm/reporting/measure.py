"""Measure of an experiment's table: the metric that its question is about, and how it is said."""

from __future__ import annotations

from dataclasses import dataclass

from mfm.evaluation.metrics import METRICS, TOP1, Metric
from mfm.experiment.settings import Experiment
from mfm.reporting import words
from mfm.reporting.document import Text
from mfm.statistics.over_seeds import Difference, Estimate


@dataclass(frozen=True)
class Measure:
    """A metric, as an experiment's reports speak of it."""

    name: str
    k: int  # of top-k

    @property
    def metric(self) -> Metric:
        """What it is."""
        return METRICS[self.name]

    @property
    def title(self) -> str:
        """What it is called."""
        return self.metric.title.format(k=self.k)

    @property
    def head(self) -> str:
        """Its title with its unit: 'top-1 in %'."""
        return f"{self.title} in %" if self.metric.share else self.title

    @property
    def better(self) -> str:
        """Which end is the good one; nothing where that goes without saying."""
        return "lower is better" if self.metric.lower_is_better else ""

    @property
    def unit(self) -> str:
        """What a difference is counted in, where it goes without saying that it is top-1."""
        return "points" if self.name == TOP1 else self.counted

    @property
    def counted(self) -> str:
        """What a difference is counted in."""
        return f"points of {self.title}" if self.metric.share else f"in {self.title}"

    def estimate(self, found: Estimate) -> Text:
        """A mean with its interval."""
        if self.metric.share:
            return words.percentage(found)
        return words.number(found, self.metric.digits)

    def deviation(self, value: float | None) -> str:
        """A standard deviation; '-' where there is none."""
        return "-" if value is None else f"{value:.{self.metric.digits}f}"

    def difference(self, found: Difference) -> str:
        """A difference with its interval."""
        return words.difference(found, self.metric.digits)

    def interval(self, found: Difference) -> str:
        """The interval of a difference."""
        return words.interval(found, sign="+", digits=self.metric.digits)

    def size(self, found: Difference) -> str:
        """How large a difference is, without its sign."""
        return f"{abs(found.mean):.{self.metric.digits}f} {self.unit}"

    def change(self, value: float) -> str:
        """A difference with its sign."""
        return f"{words.points(value, self.metric.digits)} {self.unit}"


def asked(experiment: Experiment) -> Measure:
    """The one that the table is about."""
    return Measure(experiment.metric, experiment.evaluate.top_k)


def measures(experiment: Experiment) -> list[Measure]:
    """All of them."""
    return [Measure(name, experiment.evaluate.top_k) for name in METRICS]
