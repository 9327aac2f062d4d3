"""Page of the metrics: the arms compared on each, without verdicts, from the stored predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from mfm.evaluation.metrics import METRICS, TOP1, read_scores
from mfm.experiment.layout import Layout, locate
from mfm.experiment.settings import Experiment
from mfm.reporting import measure
from mfm.reporting.document import (
    Block,
    Bold,
    Bullets,
    Code,
    Column,
    Paragraph,
    Picture,
    Section,
    Table,
    Text,
)
from mfm.reporting.measure import Measure
from mfm.reporting.verdict import sample_of
from mfm.reporting.words import listed
from mfm.statistics.over_seeds import Difference, Estimate, difference, estimate
from mfm.statistics.units import Sample

CAPTION = (
    "Each arm less {baseline} on each metric, with 95% intervals. Shaded: where the arm is better."
)
_ALL = 20  # classes up to which each has its row on the page
_AT_EACH_END = 5  # of more classes


def collect(experiment: Experiment, results: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of every model in results.csv its metrics (arm, seed, metric, value), and its recall of each
    class in percent (arm, seed, class, images, recall).

    Raises UserError for predictions of an earlier version.
    """
    values, recalls = [], []
    for row in results.to_dict("records"):
        model = locate(str(row["checkpoint"]))
        assert model is not None, row["checkpoint"]
        scores = read_scores(Path(model.evaluation.predictions), k=experiment.evaluate.top_k)
        whose = {"arm": row["arm"], "seed": row["seed"]}
        values += [
            {**whose, "metric": name, "value": metric.value(scores)}
            for name, metric in METRICS.items()
        ]
        found = pd.DataFrame(
            {"class": scores.classes, "images": scores.images, "recall": 100 * scores.recalls}
        )
        recalls.append(found.assign(**whose)[["arm", "seed", "class", "images", "recall"]])
    return pd.DataFrame(values), pd.concat(recalls, ignore_index=True)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The metrics of an experiment's runs."""

    experiment: Experiment
    results: pd.DataFrame  # says which pretraining each run started from
    values: pd.DataFrame  # metrics.csv
    recalls: pd.DataFrame  # metrics_classes.csv

    @cached_property
    def _runs(self) -> pd.DataFrame:
        """A row a run, a column a metric."""
        wide = self.values.pivot(index=["arm", "seed"], columns="metric", values="value")
        starts = self.results[["arm", "seed", "pretraining_seed"]].astype({"arm": str})
        return starts.merge(wide.reset_index(), on=["arm", "seed"])

    @property
    def arms(self) -> list[str]:
        """Those that have runs, in the configuration's order."""
        known = set(self._runs["arm"])
        return [arm for arm in self.experiment.arms if arm in known]

    @property
    def others(self) -> list[str]:
        """The arms that are compared with the baseline, where that has runs."""
        base = self.experiment.baseline
        return [arm for arm in self.arms if arm != base] if base in self.arms else []

    @cached_property
    def undefined(self) -> list[Measure]:
        """The metrics that these images don't have."""
        every = measure.measures(self.experiment)
        return [each for each in every if self._runs[each.name].isna().any()]

    @property
    def measures(self) -> list[Measure]:
        """The others."""
        every = measure.measures(self.experiment)
        return [each for each in every if each not in self.undefined]

    def estimate(self, arm: str, metric: str) -> Estimate:
        """An arm's mean."""
        return estimate(self._sample(arm, self._runs, metric))

    def difference(self, arm: str, metric: str) -> Difference:
        """An arm less the baseline."""
        return self._less(arm, self._runs, metric)

    @cached_property
    def classes(self) -> pd.DataFrame:
        """Images and mean recall of each class that has images, the lowest first."""
        known = self.recalls[self.recalls["images"] > 0]
        by_arm = known.groupby(["class", "arm"])[["images", "recall"]].mean()
        return by_arm.groupby("class").mean().sort_values("recall", kind="stable")

    def recall(self, arm: str, name: str) -> Estimate:
        """An arm's mean recall of a class, in percent."""
        return estimate(self._sample(arm, self._class(name), "recall"))

    def gain(self, arm: str, name: str) -> Difference:
        """An arm's recall of a class less the baseline's."""
        return self._less(arm, self._class(name), "recall")

    def _class(self, name: str) -> pd.DataFrame:
        rows = self.recalls[self.recalls["class"] == name]
        return rows.merge(self._runs[["arm", "seed", "pretraining_seed"]], on=["arm", "seed"])

    def _sample(self, arm: str, rows: pd.DataFrame, column: str) -> Sample:
        return sample_of(self.experiment, arm, rows[rows["arm"] == arm], column)

    def _less(self, arm: str, rows: pd.DataFrame, column: str) -> Difference:
        base = self._sample(self.experiment.baseline, rows, column)
        return difference(self._sample(arm, rows, column), base)


def read(experiment: Experiment, results: pd.DataFrame) -> Measured:
    """What the rule left; names of classes are text, whatever they look like."""
    layout = Layout(experiment.results)
    recalls = pd.read_csv(
        layout.file("metrics_classes.csv"), dtype={"arm": str, "class": str}, na_filter=False
    )
    return Measured(
        experiment=experiment,
        results=results,
        values=pd.read_csv(layout.file("metrics.csv"), dtype={"arm": str}),
        recalls=recalls.assign(recall=pd.to_numeric(recalls["recall"], errors="coerce")),
    )


def document(found: Measured) -> Section:
    """The page."""
    experiment, layout = found.experiment, Layout(found.experiment.results)
    compared: list[Block] = []
    if found.others:
        caption = CAPTION.format(baseline=experiment.baseline)
        compared = [
            Paragraph(f"The same less {experiment.baseline}, paired as in table.md:"),
            _table(found, found.others, of_difference=True),
            Picture(layout.relative(layout.figure("metrics")), caption, width=1000),
        ]
    return Section(
        f"{experiment.model.backbone} on {experiment.dataset.name}: what do other metrics say?",
        [
            Paragraph(
                "Mean of each finetuned arm with its 95% interval, computed as in table.md. "
                f"{_verdicts(experiment)}"
            ),
            _table(found, found.arms, of_difference=False),
            *compared,
            _by_class(found),
            Section("What they are", [Bullets(_definitions(found))]),
        ],
    )


def _verdicts(experiment: Experiment) -> str:
    asked = measure.asked(experiment)
    if experiment.question is None:
        return "None of them was declared as the question, so there are no verdicts."
    return f"The question is about {asked.title}: its verdict is in table.md. No other has one."


def _table(found: Measured, arms: Sequence[str], *, of_difference: bool) -> Table[Measure]:
    def cell(arm: str) -> Column[Measure]:
        def text(row: Measure) -> Text:
            if of_difference:
                return row.difference(found.difference(arm, row.name))
            return row.estimate(found.estimate(arm, row.name))

        return Column(arm, text)

    def name(row: Measure) -> str:
        unit = ("points" if of_difference else "%") if row.metric.share else ""
        told = ", ".join(each for each in (unit, row.better) if each)
        return f"{row.title} ({told})" if told else row.title

    return Table([Column("metric", name), *map(cell, arms)], found.measures)


def _by_class(found: Measured) -> Section:
    names = [str(name) for name in found.classes.index]
    which = "Share of each class's images that is recognised, in %, the lowest class first"
    if len(names) > _ALL:
        names = [*names[:_AT_EACH_END], *names[-_AT_EACH_END:]]
        which = (
            f"Share of a class's images that is recognised, in %: the {_AT_EACH_END} lowest and "
            "highest classes by the mean over arms"
        )
    its = Measure(TOP1, found.experiment.evaluate.top_k)

    def mean(arm: str) -> Column[str]:
        return Column(arm, lambda name: Bold(f"{found.recall(arm, name).mean:.2f}"))

    def gain(arm: str) -> Column[str]:
        head = f"{arm} less {found.experiment.baseline}"
        return Column(head, lambda name: its.difference(found.gain(arm, name)))

    images = {str(name): int(number) for name, number in found.classes["images"].items()}
    columns: list[Column[str]] = [
        Column("class", lambda name: name),
        Column("images", lambda name: f"{images[name]:,}"),
        *map(mean, found.arms),
        *map(gain, found.others),
    ]
    note: Text = (
        f"{which}. An interval is for one class at a time: of twenty, about one misses zero by "
        "chance. All classes and seeds: ",
        Code("metrics_classes.csv"),
        ".",
    )
    return Section("Recall by class", [Paragraph(note), Table(columns, names)])


def _definitions(found: Measured) -> list[Text]:
    k = found.experiment.evaluate.top_k
    lines: list[Text] = [
        f"{each.title}: {each.metric.description.format(k=k)}." for each in found.measures
    ]
    empty = found.recalls.groupby("class")["images"].max()
    if without := int((empty == 0).sum()):
        lines.append(
            f"{without} class{'es have' if without > 1 else ' has'} no images here, and "
            f"{'are' if without > 1 else 'is'} in no mean over classes."
        )
    if found.undefined:
        names = listed(each.title for each in found.undefined)
        lines.append(
            f"Not defined on these images: {names}. Top-k needs more than k classes, AUROC images "
            "of two."
        )
    return lines
