"""Comparison of a study's variants: what changes when one setting of the experiment does.

One page for every study: ablations, amounts of labelled images, sizes of the evaluated images,
seeds of a pretraining.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path

import pandas as pd

from mfm.evaluation.results import collect_rows
from mfm.experiment.resolve import pretraining_of
from mfm.experiment.settings import Experiment
from mfm.experiment.variants import Runs, Variant
from mfm.reporting.comparability import version_warning
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
from mfm.reporting.verdict import by_seed
from mfm.reporting.words import epochs, interval
from mfm.statistics.over_seeds import Difference, Estimate, corrected, difference, estimate
from mfm.statistics.units import Sample
from mfm.statistics.variance import Component, Split, split

Key = tuple[str, str]  # a value's name, and an arm, or a pair of arms in words


def collect(runs: Runs, study: str) -> pd.DataFrame:
    """The result rows of each value, with its name in `value`, and `own`: the experiment's own."""
    return pd.concat(
        [
            collect_rows(runs.rows(variant)).assign(value=variant.name, own=variant.own)
            for variant in runs.studies[study]
        ],
        ignore_index=True,
    )


def read_rows(path: str | Path) -> pd.DataFrame:
    """What `collect` found, from the CSV that was written of it."""
    return pd.read_csv(path, dtype={"config_hash": str, "value": str})


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A study with its rows."""

    runs: Runs
    study: str
    rows: pd.DataFrame

    @property
    def experiment(self) -> Experiment:
        """The experiment that is varied."""
        return self.runs.experiment

    @property
    def key(self) -> str:
        """The setting that is."""
        return self.experiment.variants[self.study].key

    @cached_property
    def variants(self) -> list[Variant]:
        """In the order of the page: by labelled images where they differ, then by number."""
        found = self.runs.studies[self.study]
        if self.labelled_differ:
            return sorted(found, key=lambda variant: self.images[variant.name])
        if self.numeric:
            return sorted(found, key=lambda variant: float(variant.value))
        return found

    @property
    def numeric(self) -> bool:
        """Whether the values are numbers; those of a seed are only names."""
        values = [variant.value for variant in self.runs.studies[self.study]]
        return not self.key.endswith("seed") and all(
            isinstance(value, int | float) and not isinstance(value, bool) for value in values
        )

    @cached_property
    def images(self) -> dict[str, float]:
        """Labelled images, by the value's name."""
        means = self.rows.groupby("value")["train_images"].mean()
        return {str(name): float(mean) for name, mean in means.items()}

    @property
    def labelled_differ(self) -> bool:
        """Whether the values have different numbers of labelled images."""
        return len(set(self.images.values())) > 1

    @cached_property
    def arms(self) -> list[str]:
        """The arms to which the values make a difference, in the configuration's order."""
        return self.runs.varied_arms(self.study)

    @cached_property
    def own(self) -> str:
        """Name of the experiment's own value."""
        return next(variant.name for variant in self.runs.studies[self.study] if variant.own)

    @cached_property
    def top1(self) -> dict[Key, Sample]:
        """Top-1 by value and arm, and by seed."""
        groups = self.rows.groupby(["value", "arm"], sort=False)
        return {
            (str(value), str(arm)): Sample(values=by_seed(part)) for (value, arm), part in groups
        }

    def estimate(self, value: str, arm: str) -> Estimate:
        """Mean top-1 with its interval."""
        return estimate(self.top1[value, arm])

    def with_verdicts(self, found: Mapping[Key, Difference]) -> dict[Key, Shown]:
        """Differences, with Holm's correction for the number of verdicts among them.

        The rows of the experiment's own value were the question, not one of many: the table answers
        it.
        """
        verdicts = corrected({key: each for key, each in found.items() if key[0] != self.own})
        return {
            key: Shown(
                difference=each,
                verdict=verdicts[key].verdict if key in verdicts else "see table.md",
            )
            for key, each in found.items()
        }


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A difference as a row shows it."""

    difference: Difference | None = None
    verdict: str = "-"

    @property
    def mean(self) -> str:
        """In points."""
        return "-" if self.difference is None else f"{self.difference.mean:+.2f}"

    @property
    def interval(self) -> str:
        """Its interval."""
        return "-" if self.difference is None else interval(self.difference, sign="+")


@dataclass(frozen=True, kw_only=True)
class Row:
    """An arm at one value."""

    value: str
    own: bool
    images: float
    arm: str
    top1: Estimate
    from_own: Shown  # the same arm at the experiment's own value
    from_baseline: Shown  # at the same value


def _shown_value(row: Row | _Pair) -> Text:
    return Bold(row.value) if row.own else row.value


IMAGES: Column[Row] = Column("labelled images", lambda row: f"{round(row.images):,}")
COLUMNS: list[Column[Row]] = [
    Column("value", _shown_value),
    Column("arm", lambda row: row.arm),
    Column("top-1", lambda row: f"{row.top1.mean:.2f}", unit="%"),
    Column("n", lambda row: str(row.top1.n)),
    Column("95% interval", lambda row: interval(row.top1)),
    Column("difference from {own}", lambda row: row.from_own.mean),
    Column("95% interval of it", lambda row: row.from_own.interval),
    Column("verdict", lambda row: row.from_own.verdict),
    Column("difference from {baseline}", lambda row: row.from_baseline.mean),
    Column("95% interval of that", lambda row: row.from_baseline.interval),
    Column("verdict on that", lambda row: row.from_baseline.verdict),
]


def document(found: Compared) -> Section:
    """The page of a study."""
    experiment = found.experiment
    blocks: list[Block] = [Paragraph(_introduction(found)), _picture(found), _main_table(found)]
    if len(found.variants) > 2:
        blocks.append(_means(found))
    blocks.append(Bullets(_notes(found)))
    if pairs := _among_others(found):
        title = f"Without {experiment.baseline}: the other arms among themselves"
        blocks.append(Section(title, [pairs]))
    blocks += _variances(found)
    return Section(
        f"{experiment.model.backbone} on {experiment.dataset.name}: what does {found.key} change?",
        blocks,
    )


def _introduction(found: Compared) -> Text:
    count = f"{int(found.rows['images'].iloc[0]):,} " if "images" in found.rows else ""
    labelled = (
        " A seed draws the labelled images alike for every arm, and more of them include the fewer."
        if found.labelled_differ
        else ""
    )
    same = [arm for arm in found.experiment.arms if arm not in found.arms]
    unchanged = (
        f" Its value makes no difference to {', '.join(same)}: their runs are shared."
        if same
        else ""
    )
    return (
        f"Top-1 accuracy (%) of the last epoch on the {count}evaluated images, with other values "
        "of ",
        Code(found.key),
        "; all else is as in table.md. The rows of ",
        Bold(found.own),
        " are the experiment's own value and table.md's runs: it was fixed in advance, and none is "
        f"chosen here.{unchanged}{labelled} Intervals and verdicts are computed as in table.md, "
        "pairs by seed.",
    )


def _picture(found: Compared) -> Picture:
    path = Path(found.runs.layout.variants(found.study, "svg"))
    over = "labelled images" if found.labelled_differ else found.key
    return Picture(
        path.name,
        f"Top-1 of each arm over {over}: mean over seeds and 95% interval. Marked is the "
        "experiment's own value, which is the table's.",
    )


def _main_table(found: Compared) -> Table[Row]:
    experiment, own = found.experiment, found.own
    keys = [(variant.name, arm) for variant in found.variants for arm in found.arms]
    keys = [key for key in keys if key in found.top1]
    top1, base = found.top1, experiment.baseline
    from_own = found.with_verdicts(
        {
            (value, arm): difference(top1[value, arm], top1[own, arm])
            for value, arm in keys
            if value != own and (own, arm) in top1
        }
    )
    from_baseline = found.with_verdicts(
        {
            (value, arm): difference(top1[value, arm], top1[value, base])
            for value, arm in keys
            if arm != base and (value, base) in top1
        }
    )
    rows = [
        Row(
            value=value,
            own=value == own,
            images=found.images[value],
            arm=arm,
            top1=found.estimate(value, arm),
            from_own=from_own.get((value, arm), Shown()),
            from_baseline=from_baseline.get(
                (value, arm), Shown(verdict="baseline" if arm == base else "-")
            ),
        )
        for value, arm in keys
    ]
    columns = [column.of(own=own, baseline=base) for column in COLUMNS]
    if found.labelled_differ:
        columns.insert(1, IMAGES)
    return Table(columns, rows)


def _means(found: Compared) -> Table[str]:
    """The arms' means at a glance."""

    def mean(value: str) -> Column[str]:
        return Column(value, lambda arm: f"{found.estimate(value, arm).mean:.2f}")

    def spread(arm: str) -> str:
        means = [found.estimate(value, arm).mean for value in values]
        return f"{max(means) - min(means):.2f}"

    values = [variant.name for variant in found.variants]
    arms = [arm for arm in found.arms if all((value, arm) in found.top1 for value in values)]
    named: list[Column[str]] = [Column("arm", lambda arm: arm)]
    return Table([*named, *(mean(value) for value in values), Column("spread", spread)], arms)


def _notes(found: Compared) -> list[Text]:
    recipe = found.experiment.finetune
    notes: list[Text] = [
        "Verdicts have Holm's correction for the number of them in their column; an interval is "
        "each difference's own. The rows in bold are the experiment's, whose verdict is table.md's."
    ]
    if len(found.variants) > 2:
        notes.append("spread: the largest mean less the smallest.")
    if found.labelled_differ:
        for variant in found.variants:
            other = variant.experiment.finetune
            if (other.epochs, other.batch) != (recipe.epochs, recipe.batch):
                notes.append(f"{variant.name}: {epochs(other.epochs)} of batch {other.batch}.")
        notes.append(
            f"Otherwise {epochs(recipe.epochs)} of batch {recipe.batch}; with fewer images these "
            "are fewer steps."
        )
    return notes + version_warning(found.rows)


@dataclass(frozen=True, kw_only=True)
class _Pair:
    """Two arms other than the baseline at one value."""

    value: str
    own: bool
    arms: str
    shown: Shown


PAIRS: list[Column[_Pair]] = [
    Column("value", _shown_value),
    Column("comparison", lambda pair: pair.arms),
    Column("points", lambda pair: pair.shown.mean),
    Column("95% interval", lambda pair: pair.shown.interval),
    Column("verdict", lambda pair: pair.shown.verdict),
]


def _among_others(found: Compared) -> Table[_Pair] | None:
    """Differences of the arms beside the baseline, where the values change one of two; or None."""
    others = [arm for arm in found.experiment.arms if arm != found.experiment.baseline]
    pairs = [(b, a) for a, b in combinations(others, 2) if {a, b} & set(found.arms)]
    shown = found.with_verdicts(
        {
            (variant.name, f"{a} less {b}"): difference(
                found.top1[variant.name, a], found.top1[variant.name, b]
            )
            for variant in found.variants
            for a, b in pairs
            if {(variant.name, a), (variant.name, b)} <= found.top1.keys()
        }
    )
    rows = [
        _Pair(value=value, own=value == found.own, arms=arms, shown=each)
        for (value, arms), each in shown.items()
    ]
    return Table(PAIRS, rows) if rows else None


def _variances(found: Compared) -> list[Section]:
    """Between and within pretrainings, for each arm that starts from the one whose seed varies."""
    return [
        _variance(found, arm)
        for arm in found.arms
        if found.key == f"pretrain.{pretraining_of(found.experiment, arm)}.seeds"
    ]


def _variance(found: Compared, arm: str) -> Section:
    title = f"Variance of {arm} between and within pretrainings"
    rows = found.rows[found.rows["arm"] == arm]
    names = [variant.name for variant in found.variants]
    table = rows.pivot(index="value", columns="seed", values="top1").reindex(names).dropna()
    if min(table.shape) < 2:
        return Section(
            title,
            [Paragraph("It takes two pretrainings, each finetuned with the same two seeds.")],
        )
    parts = split(table.to_numpy())
    return Section(
        title,
        [
            Paragraph(
                (
                    f"Top-1 (%) of '{arm}': {parts.pretrainings} pretrainings that differ in their "
                    f"seed alone, each finetuned with the same {parts.finetunings} seeds. The row "
                    "of pretraining seed ",
                    Bold(found.own),
                    " are the table's runs.",
                )
            ),
            _runs_table(table, found.own),
            Table(
                COMPONENTS,
                [
                    ("between pretrainings", parts.between),
                    ("within a pretraining, between its finetunings", parts.within),
                ],
            ),
            _share(parts),
        ],
    )


def _runs_table(table: pd.DataFrame, own: str) -> Table[str]:
    """Top-1 of each pretraining with each finetuning seed."""

    def run(number: int) -> Column[str]:
        seed = table.columns[number]
        return Column(f"finetuning seed {seed}", lambda name: f"{table.loc[name, seed]:.2f}")

    columns: list[Column[str]] = [
        Column("pretraining seed", lambda name: Bold(name) if name == own else name),
        *(run(number) for number in range(len(table.columns))),
        Column("mean", lambda name: f"{table.loc[name].mean():.2f}"),
    ]
    return Table(columns, [str(name) for name in table.index])


def _deviation(variance: float) -> str:
    return f"{max(0.0, variance) ** 0.5:.2f}"


COMPONENTS: list[Column[tuple[str, Component]]] = [
    Column("", lambda row: row[0]),
    Column("standard deviation", lambda row: _deviation(row[1].variance), unit="points"),
    Column("95% interval", lambda row: f"{_deviation(row[1].low)} to {_deviation(row[1].high)}"),
    Column("variance", lambda row: f"{max(0.0, row[1].variance):.3f}"),
]


def _share(found: Split) -> Block:
    if found.p != found.p:  # nothing varies
        return Paragraph("All runs have the same top-1: there is no variance to split.")
    share = found.share
    verdict = (
        f"is distinguishable from zero (F test, p = {found.p:.2g})"
        if found.p < 0.05
        else f"is not distinguishable from zero with {found.pretrainings} pretrainings "
        f"(F test, p = {found.p:.2g})"
    )
    return Bullets(
        [
            f"The variance between pretrainings {verdict}; it is {100 * share.variance:.0f}% of "
            f"the variance of a run (95% interval {100 * share.low:.0f} to "
            f"{100 * share.high:.0f}%).",
            "Two-way random effects: pretraining, finetuning seed, rest. A finetuning seed draws "
            "the same labelled images for every pretraining; 'within' is the seed's part and the "
            "rest. An estimate below zero is shown as 0. Intervals: modified large-sample; of the "
            "share, McGraw and Wong's for ICC(A,1) (src/mfm/statistics/variance.py).",
        ]
    )
