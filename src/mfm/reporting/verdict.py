"""Which arm is better than which, in numbers and in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mfm.errors import UserError
from mfm.experiment.settings import Experiment
from mfm.reporting.comparability import predictions_path
from mfm.reporting.markdown import interval, markdown_row, points
from mfm.statistics.over_images import Bootstrap, ImageTest, bootstrap, image_test
from mfm.statistics.over_seeds import (
    LEVEL,
    Difference,
    compare,
    corrected,
    difference,
    paired_seeds,
)
from mfm.statistics.power import smallest_difference

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
    arms = {str(name): by_seed(part) for name, part in results.groupby("init", sort=False)}
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
        path = predictions_path(Path(str(row["checkpoint"])))
        if not path.exists():
            continue
        table = pq.read_table(path, columns=["path", "correct"])
        name = f"{row['init']} (seed {row['seed']})"
        if first is None:
            first = name, table["path"]
        elif not table["path"].equals(first[1]):
            raise UserError(
                f"{name} and {first[0]} were evaluated on different images; run "
                "'snakemake --forcerun evaluate' to compare them"
            )
        right = table["correct"].to_numpy()
        found.setdefault(str(row["init"]), {})[int(row["seed"])] = right
    return found


def against_baseline(
    experiment: Experiment, results: pd.DataFrame, right: Mapping[str, RightBySeed]
) -> list[Comparison]:
    """Every other arm against the baseline, corrected for their number."""
    arms = by_arm(experiment, results)
    if experiment.baseline not in arms:
        return []
    found = compare(arms, experiment.baseline)
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
    found = corrected({f"{a}/{b}": difference(arms[a], arms[b]) for a, b in pairs})
    return [_comparison(a, b, found[f"{a}/{b}"], arms, right) for a, b in pairs]


def _comparison(
    arm: str,
    other: str,
    found: Difference,
    arms: Mapping[str, Mapping[int, float]],
    right: Mapping[str, RightBySeed],
) -> Comparison:
    ours, theirs = arms[arm], arms[other]
    common = paired_seeds(ours, theirs)
    seeds = (common, common) if common else (sorted(ours), sorted(theirs))
    known = all(
        set(wanted) <= right.get(name, {}).keys()
        for name, wanted in zip((arm, other), seeds, strict=True)
    )
    images = spread = None
    if known:
        hits = [
            np.stack([right[name][seed] for seed in wanted])
            for name, wanted in zip((arm, other), seeds, strict=True)
        ]
        images = image_test(*hits) if common else None
        spread = bootstrap(*hits, paired=bool(common))
    return Comparison(
        arm=arm,
        other=other,
        seeds=(len(ours), len(theirs)),
        difference=found,
        images=images,
        bootstrap=spread,
    )


def sentence(found: Comparison) -> str:
    """The verdict as one sentence of Markdown."""
    each = found.difference
    arms = f"{found.arm} and {found.other}"
    seeds = f"{each.n} seed pair{'s' * (each.n > 1)}"
    if each.method == "welch":
        seeds = f"{found.seeds[0]} and {found.seeds[1]} seeds"
    if each.low is None:
        return (
            f"**No verdict on {arms}**: {points(each.mean)} with {seeds}, and an interval needs at "
            "least 2 seeds."
        )
    if each.low == each.high:
        return f"**No verdict on {arms}**: all seeds differ by the same {points(each.mean)}."
    p = f"p {p_text(each.p)}"
    if each.adjusted is not None:
        p += (
            f", {p_text(each.adjusted, sign=False)} after Holm's correction for "
            f"{each.comparisons} comparisons"
        )
    how = f"95% interval {interval(each, sign='+')}; {seeds}; {p}"
    if each.verdict in ("better", "worse"):
        return (
            f"**{found.arm} is {each.verdict} than {found.other}** by {abs(each.mean):.2f} points "
            f"({how})."
        )
    least = smallest_difference(each.n, each.deviation, level=found.level) if each.deviation else 0
    # Accuracies are percent: no difference is larger.
    power = (
        f"a true difference has to be {least:.1f} points for so many seeds to find it with a "
        "probability of 80%."
        if least <= 100
        else "so few seeds cannot find any difference with a probability of 80%."
    )
    return (
        f"**{arms} are {each.verdict}**: {points(each.mean)} ({how}). That does not make them "
        f"equal: {power}"
    )


HEADER = (
    "comparison",
    "points",
    "95% interval over seeds",
    "p",
    "p (Holm)",
    "95% interval over seeds and images",
    "images only the first gets right",
    "only the second",
    "p (McNemar)",
    "mid-p",
)


def details(found: Sequence[Comparison]) -> list[str]:
    """The numbers behind the sentences, as a Markdown table."""
    lines = [markdown_row(HEADER), markdown_row(["---"] * len(HEADER))]
    for each in found:
        over, test = each.bootstrap, each.images
        lines.append(
            markdown_row(
                [
                    f"{each.arm} less {each.other}",
                    f"{each.difference.mean:+.2f}",
                    interval(each.difference, sign="+"),
                    p_text(each.difference.p, sign=False),
                    p_text(each.difference.adjusted, sign=False),
                    "-" if over is None else f"{over.low:+.2f} to {over.high:+.2f}",
                    "-" if test is None else f"{test.gained:,.1f}",
                    "-" if test is None else f"{test.lost:,.1f}",
                    p_text(None if test is None else test.p, sign=False),
                    p_text(None if test is None else test.mid_p, sign=False),
                ]
            )
        )
    return lines


def p_text(p: float | None, *, sign: bool = True) -> str:
    """A p value to read: '= 0.031', '< 0.0001', or '-'."""
    if p is None:
        return "-"
    if p < 0.0001:
        return "< 0.0001"
    return f"{'= ' * sign}{p:.2g}" if p < 0.1 else f"{'= ' * sign}{p:.2f}"
