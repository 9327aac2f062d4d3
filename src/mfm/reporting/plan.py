"""`plan.md`: how many seeds would resolve which difference, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mfm.experiment import resolve
from mfm.experiment.settings import Experiment
from mfm.reporting.markdown import hours, markdown_row
from mfm.reporting.verdict import Comparison, against_baseline
from mfm.statistics.over_seeds import LEVEL
from mfm.statistics.power import deviation_interval, seeds_needed, smallest_difference

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
        pairs = seeds_needed(points, deviation, level=found.level)
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
        run = Path(str(row["checkpoint"])).parent  # <results>/finetune/<arm>/seed<n>
        name = f"evaluate/{run.parent.name}/{run.name}.tsv"
        file = run.parents[2] / "benchmarks" / name
        evaluation = float(pd.read_csv(file, sep="\t")["s"].mean()) if file.exists() else 0.0
        times.setdefault(str(row["init"]), []).append(float(row["seconds"]) + evaluation)
    return {name: sum(values) / len(values) for name, values in times.items()}


def render(experiment: Experiment, results: pd.DataFrame) -> str:
    """The plan as Markdown, from the runs that are finished; `results` may have no rows."""
    compared = [name for name in experiment.arms if name != experiment.baseline]
    level = 1 - (1 - LEVEL) / max(1, len(compared))
    lines = [
        f"# {experiment.model.backbone} on {experiment.dataset.name}: how many seeds?",
        "",
        "How many seed pairs (the same seed in two arms) the paired t test needs to find a true "
        "difference with a probability of 80% (its power), by the noncentral t distribution. "
        + (
            f"At level {1 - level:.3g}: {len(compared)} arms are compared with "
            f"'{experiment.baseline}', and Holm's correction may ask that much."
            if len(compared) > 1
            else f"At level {1 - level:.2g}."
        ),
        "",
    ]
    seconds = run_seconds(results)
    measured = [
        each for each in against_baseline(experiment, results, {}) if each.difference.deviation
    ]
    if measured:
        lines += _measured(measured, seconds)
    if len(measured) < len(compared):
        missing = [name for name in compared if name not in {each.arm for each in measured}]
        lines += _assumed(experiment, missing, seconds, level)
    return "\n".join(lines) + "\n"


def _measured(found: list[Comparison], seconds: Mapping[str, float]) -> list[str]:
    head = (
        "comparison",
        "seed pairs now",
        "sd of a seed's difference",
        "its 95% interval",
        "found now with 80%",
        "to find",
        "seed pairs",
        "for the sd's interval",
        "more runs",
        "cost",
    )
    lines = ["## From the runs here", "", markdown_row(head), markdown_row(["---"] * len(head))]
    for each in found:
        now = each.difference
        assert now.deviation is not None
        assert now.freedom is not None
        low, high = deviation_interval(now.deviation, now.freedom)
        for need in needs(each, seconds):
            ends = [seeds_needed(need.points, sd, level=each.level) for sd in (low, high)]
            more = [
                f"{count:,} of {name}"
                for name, count in zip((each.arm, each.other), need.runs, strict=True)
                if count
            ]
            lines.append(
                markdown_row(
                    [
                        f"{each.arm} less {each.other}",
                        str(now.n),
                        f"{now.deviation:.2f}",
                        f"{low:.2f} to {high:.2f}",
                        f"{smallest_difference(now.n, now.deviation, level=each.level):.2f}",
                        f"{need.points:g}",
                        f"{need.pairs:,}",
                        f"{ends[0]:,} to {ends[1]:,}",
                        " + ".join(more) or "none",
                        hours(need.seconds) if more else "-",
                    ]
                )
            )
    return [
        *lines,
        "",
        "- All in points of top-1. The sd is that of the finished seeds; from so few it is only "
        "known to within its interval, and so are the seeds.",
        "- Cost: the finetunings and evaluations at their mean times here, one after the other. "
        "Pretraining is not repeated. Runs of the baseline are counted in each comparison, and "
        "serve them all. Arms whose seeds do not pair are planned as if new seeds did.",
        "",
    ]


def _assumed(
    experiment: Experiment, missing: list[str], seconds: Mapping[str, float], level: float
) -> list[str]:
    seeds = min(
        (
            sum(init == name for init, _ in resolve.finetunings(experiment))
            for name in (*missing, experiment.baseline)
        ),
        default=0,
    )
    head = ["assumed sd of a seed's difference", "seen in", *(f"{p:g} points" for p in POINTS)]
    head.append(f"found with the {seeds} seeds configured")
    lines = [
        "## Before there are runs",
        "",
        f"Nothing is measured yet for {', '.join(missing)} against {experiment.baseline}. The "
        "spread over seeds is assumed, in points of top-1: look for the row that is most like your "
        "data. Seed pairs by the difference to find:",
        "",
        markdown_row(head),
        markdown_row(["---"] * len(head)),
    ]
    for deviation, source in ASSUMED:
        least = "-"
        if seeds > 1:
            least = f"{smallest_difference(seeds, deviation, level=level):.2f} points"
        counts = [f"{seeds_needed(p, deviation, level=level):,}" for p in POINTS]
        lines.append(markdown_row([f"{deviation:g}", source, *counts, least]))
    lines.append("")
    if seconds:
        known = ", ".join(f"{name} {hours(value)}" for name, value in seconds.items())
        lines.append(f"- One finetuning with its evaluation took, on average: {known}.")
    else:
        lines.append(
            "- Cost: unknown, since no run has finished here. A seed pair is a finetuning and an "
            "evaluation of each arm; pretraining is not repeated."
        )
    return [*lines, ""]
