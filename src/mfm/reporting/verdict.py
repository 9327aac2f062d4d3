"""Verdict: which arm is better than which, in numbers and in sentences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mfm.errors import UserError
from mfm.experiment.layout import locate
from mfm.experiment.settings import Experiment
from mfm.reporting.document import Bold, Column, Table, Text
from mfm.reporting.words import interval, points
from mfm.statistics.over_images import Bootstrap, ImageTest, bootstrap, by_unit, image_test
from mfm.statistics.over_seeds import LEVEL, Difference, corrected, difference
from mfm.statistics.power import smallest_difference
from mfm.statistics.units import Sample, paired, units_of

RightBySeed = dict[int, npt.NDArray[np.bool_]]  # seed: [images]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One arm less another one, over seeds and over images."""

    arm: str
    other: str
    seeds: tuple[int, int]  # of the arm, of the other
    difference: Difference
    images: ImageTest | None  # None where the seeds are not paired, or without predictions
    bootstrap: Bootstrap | None  # None for fewer than 2 seeds, or without predictions

    @property
    def level(self) -> float:
        """Confidence level that Holm's correction asks of the clearest of the comparisons."""
        return 1 - (1 - LEVEL) / self.difference.comparisons


def by_seed(part: pd.DataFrame) -> dict[int, float]:
    """Top-1 of one arm's rows by seed."""
    return {int(seed): float(top1) for seed, top1 in zip(part["seed"], part["top1"], strict=True)}


def by_arm(experiment: Experiment, results: pd.DataFrame) -> dict[str, dict[int, float]]:
    """Top-1 by arm and seed: the baseline first, then the configuration's order."""
    arms = {str(name): by_seed(part) for name, part in results.groupby("arm", sort=False)}
    base = experiment.baseline
    order = [base, *(name for name in experiment.arms if name != base)]
    return {name: arms[name] for name in order if name in arms}


def load_right(results: pd.DataFrame) -> dict[str, RightBySeed]:
    """Whether each image was right, by arm and seed, for the runs whose predictions are here.

    Raises UserError where runs were evaluated on different images.
    """
    found: dict[str, RightBySeed] = {}
    first: tuple[str, pa.ChunkedArray] | None = None
    for row in results.to_dict("records"):
        model = locate(str(row["checkpoint"]))
        if model is None or not Path(model.evaluation.predictions).exists():
            continue
        table = pq.read_table(model.evaluation.predictions, columns=["path", "correct"])
        name = f"{row['arm']} (seed {row['seed']})"
        if first is None:
            first = name, table["path"]
        elif not table["path"].equals(first[1]):
            raise UserError(
                f"{name} and {first[0]} were evaluated on different images; run "
                "'snakemake --forcerun evaluate' to compare them"
            )
        right = table["correct"].to_numpy()
        found.setdefault(str(row["arm"]), {})[int(row["seed"])] = right
    return found


def against_baseline(
    experiment: Experiment, results: pd.DataFrame, right: Mapping[str, RightBySeed]
) -> list[Comparison]:
    """Every other arm against the baseline, corrected for their number."""
    arms = by_arm(experiment, results)
    if experiment.baseline not in arms:
        return []
    base = Sample(values=arms[experiment.baseline])
    found = corrected(
        {
            name: difference(Sample(values=values), base)
            for name, values in arms.items()
            if name != experiment.baseline
        }
    )
    return [
        _comparison(name, experiment.baseline, each, arms, right) for name, each in found.items()
    ]


def among_others(
    experiment: Experiment, results: pd.DataFrame, right: Mapping[str, RightBySeed]
) -> list[Comparison]:
    """Every pair of arms without the baseline, corrected for the number of these pairs."""
    arms = by_arm(experiment, results)
    names = [name for name in arms if name != experiment.baseline]
    pairs = [(names[j], names[i]) for i in range(len(names)) for j in range(i + 1, len(names))]
    samples = {name: Sample(values=values) for name, values in arms.items()}
    found = corrected({f"{a}/{b}": difference(samples[a], samples[b]) for a, b in pairs})
    return [_comparison(a, b, found[f"{a}/{b}"], arms, right) for a, b in pairs]


def _comparison(
    arm: str,
    other: str,
    found: Difference,
    arms: Mapping[str, Mapping[int, float]],
    right: Mapping[str, RightBySeed],
) -> Comparison:
    ours, theirs = Sample(values=arms[arm]), Sample(values=arms[other])
    common = paired(ours, theirs)
    units = (common, common) if common else (units_of(ours), units_of(theirs))
    known = all(
        set(each.seeds) <= right.get(name, {}).keys()
        for name, each in zip((arm, other), units, strict=True)
    )
    images = spread = None
    if known:
        hits = [
            np.stack([right[name][seed] for seed in each.seeds])
            for name, each in zip((arm, other), units, strict=True)
        ]
        images = image_test(*hits) if common else None
        shares = [by_unit(hit, each.labels) for hit, each in zip(hits, units, strict=True)]
        spread = bootstrap(*shares, paired=bool(common))
    return Comparison(
        arm=arm,
        other=other,
        seeds=(len(ours.values), len(theirs.values)),
        difference=found,
        images=images,
        bootstrap=spread,
    )


def sentence(found: Comparison) -> Text:
    """The verdict as one sentence."""
    each = found.difference
    arms = f"{found.arm} and {found.other}"
    seeds = f"{each.n} seed pair{'s' * (each.n > 1)}"
    if each.method == "welch":
        seeds = f"{found.seeds[0]} and {found.seeds[1]} seeds"
    if each.low is None:
        return (
            Bold(f"No verdict on {arms}"),
            f": {points(each.mean)} with {seeds}, and an interval needs at least 2 seeds.",
        )
    if each.low == each.high:
        gap = points(each.mean)
        return (Bold(f"No verdict on {arms}"), f": all seeds differ by the same {gap}.")
    p = f"p {p_text(each.p)}"
    if each.adjusted is not None:
        p += (
            f", {p_text(each.adjusted, sign=False)} after Holm's correction for "
            f"{each.comparisons} comparisons"
        )
    how = f"95% interval {interval(each, sign='+')}; {seeds}; {p}"
    if each.verdict in ("better", "worse"):
        return (
            Bold(f"{found.arm} is {each.verdict} than {found.other}"),
            f" by {abs(each.mean):.2f} points ({how}).",
        )
    return (
        Bold(f"{arms} are {each.verdict}"),
        f": {points(each.mean)} ({how}). That does not make them equal: {_power(found)}",
    )


def _power(found: Comparison) -> str:
    each = found.difference
    least = smallest_difference(each.n, each.deviation, level=found.level) if each.deviation else 0
    if least > 100:  # accuracies are percent: no difference is larger
        return "so few seeds cannot find any difference with a probability of 80%."
    return (
        f"a true difference has to be {least:.1f} points for so many seeds to find it with a "
        "probability of 80%."
    )


def _images(found: Comparison, form: Callable[[ImageTest], str]) -> str:
    return "-" if found.images is None else form(found.images)


DETAILS: list[Column[Comparison]] = [
    Column("comparison", lambda one: f"{one.arm} less {one.other}"),
    Column("points", lambda one: f"{one.difference.mean:+.2f}"),
    Column("95% interval over seeds", lambda one: interval(one.difference, sign="+")),
    Column("p", lambda one: p_text(one.difference.p, sign=False)),
    Column("p (Holm)", lambda one: p_text(one.difference.adjusted, sign=False)),
    Column(
        "95% interval over seeds and images",
        lambda one: (
            "-"
            if one.bootstrap is None
            else f"{one.bootstrap.low:+.2f} to {one.bootstrap.high:+.2f}"
        ),
    ),
    Column(
        "images only the first gets right",
        lambda one: _images(one, lambda test: f"{test.gained:,.1f}"),
    ),
    Column("only the second", lambda one: _images(one, lambda test: f"{test.lost:,.1f}")),
    Column("p (McNemar)", lambda one: _images(one, lambda test: p_text(test.p, sign=False))),
    Column("mid-p", lambda one: _images(one, lambda test: p_text(test.mid_p, sign=False))),
]


def details(found: Sequence[Comparison]) -> Table[Comparison]:
    """The numbers behind the sentences."""
    return Table(DETAILS, found)


def p_text(p: float | None, *, sign: bool = True) -> str:
    """A p value to read: '= 0.031', '< 0.0001', or '-'."""
    if p is None:
        return "-"
    if p < 0.0001:
        return "< 0.0001"
    return f"{'= ' * sign}{p:.2g}" if p < 0.1 else f"{'= ' * sign}{p:.2f}"
