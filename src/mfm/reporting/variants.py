"""Comparison of a study's variants: what changes when one setting of the experiment does.

One page for every study: ablations, amounts of labelled images, sizes of the evaluated images,
seeds of a pretraining.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from mfm.evaluation.results import collect_rows
from mfm.experiment.settings import Experiment
from mfm.experiment.variants import Runs, Variant
from mfm.reporting import words
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
from mfm.reporting.verdict import sample_of
from mfm.reporting.words import epochs
from mfm.statistics.over_seeds import Difference, Estimate, corrected, difference, estimate
from mfm.statistics.units import Sample

Key = tuple[str, str]  # a value's name, and an arm


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
    return pd.read_csv(path, dtype={"config_hash": str, "pretraining_seed": str, "value": str})


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
        """Whether the values are numbers."""
        return all(
            isinstance(variant.value, int | float) and not isinstance(variant.value, bool)
            for variant in self.runs.studies[self.study]
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
        of = {variant.name: variant.experiment for variant in self.variants}
        return {
            (str(value), str(arm)): sample_of(of[str(value)], str(arm), part)
            for (value, arm), part in groups
        }

    def estimate(self, value: str, arm: str) -> Estimate:
        """Mean top-1 with its interval."""
        return estimate(self.top1[value, arm])

    @cached_property
    def differences(self) -> dict[tuple[Key, Key], Difference]:
        """Of an arm at one value from itself at the own one, and from the baseline at that value.

        One correction for all of them but those at the own value: these are the table's.
        """
        own, base = self.own, self.experiment.baseline
        found = {
            (key, other): difference(self.top1[key], self.top1[other])
            for key in self.shown
            for other in ((own, key[1]), (key[0], base))
            if key != other and other in self.top1
        }
        tested = {pair: each for pair, each in found.items() if pair[0][0] != own}
        return found | corrected(tested)

    @property
    def shown(self) -> list[Key]:
        """The rows of the page."""
        keys = [(variant.name, arm) for variant in self.variants for arm in self.arms]
        return [key for key in keys if key in self.top1]


@dataclass(frozen=True, kw_only=True)
class Row:
    """An arm at one value."""

    found: Compared
    value: str
    arm: str

    def less(self, value: str, arm: str) -> Difference | None:
        """Its difference from another row; None for itself, and where that isn't there."""
        return self.found.differences.get(((self.value, self.arm), (value, arm)))


def _shown_value(row: Row) -> Text:
    return Bold(row.value) if row.value == row.found.own else row.value


def _runs(row: Row) -> str:
    sample = row.found.top1[row.value, row.arm]
    starts = set((sample.pretrainings or {}).values())
    return f"{len(sample.values)} from {len(starts)}" if starts else f"{len(sample.values)}"


def _less(value: Callable[[Row], str], arm: Callable[[Row], str]) -> Callable[[Row], Text]:
    def cell(row: Row) -> Text:
        found = row.less(value(row), arm(row))
        return "-" if found is None else words.difference(found)

    return cell


def _verdict(row: Row) -> str:
    found = row.less(row.found.own, row.arm)
    return "-" if found is None else found.verdict


def _verdict_on_baseline(row: Row) -> str:
    base = row.found.experiment.baseline
    found = row.less(row.value, base)
    if found is None:
        return "baseline" if row.arm == base else "-"
    return "see table.md" if row.value == row.found.own else found.verdict


IMAGES: Column[Row] = Column(
    "labelled images", lambda row: f"{round(row.found.images[row.value]):,}"
)
COLUMNS: list[Column[Row]] = [
    Column("value", _shown_value),
    Column("arm", lambda row: row.arm),
    Column(
        "top-1 in % (95% interval)",
        lambda row: words.percentage(row.found.estimate(row.value, row.arm)),
    ),
    Column("finetunings", _runs, description="and the pretrainings that they start from"),
    Column("less {own} (95% interval)", _less(lambda row: row.found.own, lambda row: row.arm)),
    Column("verdict", _verdict),
    Column(
        "less {baseline} (95% interval)",
        _less(lambda row: row.value, lambda row: row.found.experiment.baseline),
    ),
    Column("verdict on that", _verdict_on_baseline),
]


def document(found: Compared) -> Section:
    """The page of a study."""
    experiment = found.experiment
    blocks: list[Block] = [Paragraph(_introduction(found)), _picture(found), _main_table(found)]
    if len(found.variants) > 2:
        blocks.append(_means(found))
    blocks.append(Bullets(_notes(found)))
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
    columns = [column.of(own=found.own, baseline=found.experiment.baseline) for column in COLUMNS]
    if found.labelled_differ:
        columns.insert(1, IMAGES)
    return Table(columns, [Row(found=found, value=value, arm=arm) for value, arm in found.shown])


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
        "Verdicts have Holm's correction for the number of all on this page; an interval is each "
        "difference's own. The rows in bold are the experiment's, whose verdict is table.md's.",
        *_given(found),
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


def _given(found: Compared) -> list[Text]:
    """That verdicts are given single pretrainings, where they are."""
    if not any(each.conditional for each in found.differences.values()):
        return []
    return [
        "An arm whose finetunings start from 1 pretraining is compared given this one pretraining "
        "(or these weights): another may do better or worse."
    ]
