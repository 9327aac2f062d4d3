"""Page of the tuning: what was tried, each arm's best, and what that changes in the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from mfm.evaluation.metrics import TOP1
from mfm.evaluation.results import collect_rows
from mfm.experiment.resolve import finetunings
from mfm.experiment.tuning import Choice
from mfm.experiment.variants import Runs, Variant
from mfm.reporting import verdict
from mfm.reporting.document import Block, Bold, Bullets, Column, Paragraph, Section, Table, Text
from mfm.reporting.words import difference, duration
from mfm.statistics.over_seeds import Difference, Estimate, estimate


def collect_trials(runs: Runs) -> pd.DataFrame:
    """The rows of all trials, in the grid's order, with the trial's name."""
    parts = [
        collect_rows(runs.rows(trial)).assign(trial=name) for name, trial in runs.trials.items()
    ]
    return pd.concat(parts, ignore_index=True)


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """A finished tuning: its trials, and the table's rows with both recipes."""

    runs: Runs
    choice: Choice
    trials: pd.DataFrame
    shared: pd.DataFrame  # the experiment's own recipe
    tuned: pd.DataFrame  # each arm's best trial, whose name is its value

    @cached_property
    def arms(self) -> list[str]:
        """In the configuration's order."""
        return list(self.runs.experiment.arms)


def read(runs: Runs, choice: Choice, *, trials: Path) -> Tuned:
    """What the runs left."""
    layout, own = runs.layout, runs.experiment
    rows = [layout.evaluation(arm, seed).row for arm, seed in finetunings(own)]
    tuned = collect_rows([each.evaluation.row for each in runs.tuned_models(choice.best)])
    return Tuned(
        runs=runs,
        choice=choice,
        trials=pd.read_csv(trials),
        shared=collect_rows(rows),
        tuned=tuned.assign(value=tuned["arm"].map(choice.best)),
    )


def document(found: Tuned) -> Section:
    """The whole page."""
    experiment = found.runs.experiment
    tuning = experiment.tuning
    assert tuning is not None
    images = int(found.trials["images"].iloc[0])
    blocks: list[Block] = [
        Paragraph(
            f"Every arm was finetuned with the same {len(tuning.trials)} settings, each with seeds "
            f"that the table doesn't use ({', '.join(map(str, tuning.seeds))}), and evaluated on "
            f"{images:,} training images set aside. The images that the table is computed on chose "
            "nothing."
        ),
        _trials(found),
        _changed(found),
        _cost(found),
    ]
    name = f"{experiment.model.backbone} on {experiment.dataset.name}"
    return Section(f"{name}: which finetuning for which arm?", blocks)


def _trials(found: Tuned) -> Section:
    means = found.trials.groupby(["trial", "arm"])["top1"].mean()

    def of(arm: str) -> Column[str]:
        def cell(trial: str) -> Text:
            text = f"{means[trial, arm]:.2f}"
            return Bold(text) if found.choice.best[arm] == trial else text

        return Column(arm, cell)

    columns: list[Column[str]] = [
        Column("finetuning", lambda trial: _said(found.runs.trials[trial])),
        *(of(arm) for arm in found.arms),
        Column("mean", lambda trial: f"{means[trial].mean():.2f}"),
    ]
    notes: list[Text] = [
        "Top-1 in percent, mean over the seeds. Bold: the arm's best, the first of equal ones.",
        ("Best for all arms together: ", Bold(_said(found.runs.trials[found.choice.shared])), "."),
    ]
    own = [_said(each) for each in found.runs.tuned.values() if each.own]
    notes += [f"The experiment's own recipe: {each}." for each in own]
    edges = _at_an_edge(found)
    if edges:
        notes.append(
            (
                Bold(f"At an edge of the grid: {'; '.join(edges)}."),
                " A wider grid may have a better one.",
            )
        )
    return Section("Trials", [Table(columns, list(found.runs.trials)), Bullets(notes)])


def _said(trial: Variant) -> str:
    return ", ".join(f"{key} {value}" for key, value in trial.value.items())


def _at_an_edge(found: Tuned) -> list[str]:
    """Arms whose best trial has the lowest or highest of three or more values of a setting."""
    tuning = found.runs.experiment.tuning
    assert tuning is not None
    lines = []
    for arm in found.arms:
        trial = found.runs.trials[found.choice.best[arm]].value
        lines += [
            f"{arm}, {key} {trial[key]:g}"
            for key, values in tuning.grid.items()
            if len(values) > 2 and trial[key] in _ends(values)
        ]
    return lines


def _ends(values: Sequence[object]) -> list[object]:
    numbers = [value for value in values if isinstance(value, int | float)]
    return [min(numbers), max(numbers)] if len(numbers) == len(values) else []


@dataclass(frozen=True, kw_only=True)
class _Arm:
    name: str
    best: str
    top1: tuple[Estimate, Estimate]  # with the shared recipe, and with its own
    differences: tuple[Difference | None, Difference | None]


CHANGED: list[Column[_Arm]] = [
    Column("arm", lambda arm: arm.name),
    Column("its best", lambda arm: arm.best),
    Column("top-1, shared recipe", lambda arm: f"{arm.top1[0].mean:.2f}", unit="%"),
    Column("top-1, own best", lambda arm: f"{arm.top1[1].mean:.2f}", unit="%"),
    Column("difference, shared", lambda arm: _difference(arm.differences[0])),
    Column("verdict, shared", lambda arm: _verdict(arm.differences[0])),
    Column("difference, own best", lambda arm: _difference(arm.differences[1])),
    Column("verdict, own best", lambda arm: _verdict(arm.differences[1])),
]


def _difference(found: Difference | None) -> str:
    return "-" if found is None else difference(found)


def _verdict(found: Difference | None) -> str:
    return "baseline" if found is None else found.verdict


def _changed(found: Tuned) -> Section:
    experiment, kinds = found.runs.experiment, (found.shared, found.tuned)
    by_top1 = experiment  # as the trials were chosen, whatever is asked
    if (asked := experiment.question) is not None:
        by_top1 = experiment.model_copy(
            update={"question": asked.model_copy(update={"metric": TOP1})}
        )
    compared = [verdict.differences_from_baseline(by_top1, rows) for rows in kinds]
    samples = [verdict.samples(by_top1, rows) for rows in kinds]
    rows = [
        _Arm(
            name=arm,
            best=_said(found.runs.trials[found.choice.best[arm]]),
            top1=(estimate(samples[0][arm]), estimate(samples[1][arm])),
            differences=(compared[0].get(arm), compared[1].get(arm)),
        )
        for arm in found.arms
    ]
    tuning = experiment.tuning
    assert tuning is not None
    used = {"shared": "the shared recipe", "own": "each arm's own best"}[tuning.use]
    return Section(
        "What it changes",
        [
            Table(CHANGED, rows),
            Bullets(
                [
                    "On the table's images and seeds; differences are from "
                    f"'{experiment.baseline}', with their 95% intervals.",
                    ("table.md has ", Bold(used), "."),
                ]
            ),
        ],
    )


def _cost(found: Tuned) -> Section:
    seconds = {str(arm): part for arm, part in found.trials.groupby("arm")["seconds"]}
    columns: list[Column[str]] = [
        Column("arm", lambda arm: arm),
        Column("finetunings", lambda arm: f"{len(seconds[arm]):,}"),
        Column("training time", lambda arm: duration(float(seconds[arm].sum()))),
    ]
    return Section("Cost of the trials", [Table(columns, found.arms)])
