"""Verdict: which arms are compared with which, and what the tests say of each comparison."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mfm.errors import UserError
from mfm.evaluation.metrics import METRICS, TOP1
from mfm.experiment.arms import FromWeights
from mfm.experiment.layout import locate
from mfm.experiment.resolve import longer_arms, pretraining_seed
from mfm.experiment.settings import Experiment
from mfm.statistics.over_images import (
    Bootstrap,
    Groups,
    ImageTest,
    bootstrap,
    by_group,
    by_unit,
    image_test,
)
from mfm.statistics.over_seeds import LEVEL, Difference, corrected, difference
from mfm.statistics.units import Sample, paired, units_of

RightBySeed = dict[int, npt.NDArray[np.bool_]]  # seed: [images]
_NOT_THERE = (
    "question.metric: {0} has no values here, or is not defined on these images "
    "(docs/metrics.md): choose another one"
)
_GIVEN = "given weights"  # which this workflow did not pretrain: one pretraining for all seeds


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One arm less another one, over seeds and over images."""

    arm: str
    other: str
    samples: tuple[Sample, Sample]  # of the arm, of the other
    difference: Difference
    primary: bool = False  # the declared one
    images: ImageTest | None = None  # None where the seeds are not paired, or without predictions
    bootstrap: Bootstrap | None = None  # None for fewer than 2 units, or without predictions

    @property
    def seeds(self) -> tuple[int, int]:
        """Finetunings of the arm, and of the other."""
        return len(self.samples[0].values), len(self.samples[1].values)

    @property
    def level(self) -> float:
        """Confidence level that Holm's correction asks of the clearest of the comparisons."""
        return 1 - (1 - LEVEL) / self.difference.comparisons

    @property
    def unit(self) -> str:
        """What its interval rests on: 'pretraining', or 'seed'."""
        if self.difference.conditional:
            return "seed"
        several = [_starts(sample, sample.values) for sample in self.samples]
        return "pretraining" if any(len(starts) > 1 for starts in several) else "seed"

    @property
    def given(self) -> str:
        """What the verdict is given, in words: 'this one pretraining', 'these weights', or ''."""
        if not self.difference.conditional:
            return ""
        seeds = [set(sample.values) for sample in self.samples]
        if self.difference.method == "paired":
            seeds = [seeds[0] & seeds[1]] * 2
        starts = [_starts(*each) for each in zip(self.samples, seeds, strict=True)]
        single = [
            name for name, its in zip((self.arm, self.other), starts, strict=True) if len(its) == 1
        ]
        words = [
            "these weights" if each == {_GIVEN} else "this one pretraining"
            for each in starts
            if len(each) == 1
        ]
        if len(set(words)) == 2:
            return f"{words[0]} and {words[1]}"
        if len(words) == 2:
            return f"{words[0]} of each"
        return words[0] if single == [self.arm] else f"{words[0]} of {single[0]}"


def _starts(sample: Sample, seeds: Collection[int]) -> set[Hashable]:
    """The pretrainings that an arm's runs of these seeds started from; none from scratch."""
    return set() if sample.pretrainings is None else {sample.pretrainings[seed] for seed in seeds}


def sample_of(experiment: Experiment, arm: str, rows: pd.DataFrame, measure: str = TOP1) -> Sample:
    """An arm's values by seed, and the pretraining that each run started from.

    Rows of results.csv say which; for others it is what the experiment has them start from.
    """
    seeds = [int(seed) for seed in rows["seed"]]
    values = dict(zip(seeds, map(float, rows[measure]), strict=True))
    source = experiment.arms[arm]
    starts: Mapping[int, Hashable] | None = None
    if isinstance(source, FromWeights):
        if source.weights is not None:
            starts = dict.fromkeys(seeds, _GIVEN)
        elif "pretraining_seed" in rows:
            starts = dict(zip(seeds, map(str, rows["pretraining_seed"]), strict=True))
        else:
            starts = {seed: str(pretraining_seed(experiment, arm, seed)) for seed in seeds}
    metric = METRICS.get(measure, METRICS[TOP1])  # further measures are accuracies
    return Sample(
        values=values,
        pretrainings=starts,
        lower_is_better=metric.lower_is_better,
        rounding=metric.rounding,
    )


def samples(
    experiment: Experiment, results: pd.DataFrame, measure: str = TOP1
) -> dict[str, Sample]:
    """Values by arm: the baseline first, then the configuration's order."""
    parts = {str(name): part for name, part in results.groupby("arm", sort=False)}
    base = experiment.baseline
    order = [base, *(name for name in experiment.arms if name != base)]
    return {
        name: sample_of(experiment, name, parts[name], measure) for name in order if name in parts
    }


def pairs(experiment: Experiment, arms: Collection[str]) -> list[tuple[str, str]]:
    """What is compared: the question's arms, each arm with the baseline and with its equal in cost.

    Each pair once. No others are tested: every one more costs all of them power.
    """
    question, base = experiment.question, experiment.baseline
    found = [] if question is None else [(question.arm, question.baseline)]
    found += [(name, base) for name in arms if name != base]
    found += [(other, longer) for longer, other in longer_arms(experiment).items()]
    once: dict[frozenset[str], tuple[str, str]] = {}
    for pair in found:
        if set(pair) <= set(arms):
            once.setdefault(frozenset(pair), pair)
    return list(once.values())


def compare(
    experiment: Experiment,
    results: pd.DataFrame,
    right: Mapping[str, RightBySeed] | None = None,
    groups: Groups | None = None,
) -> list[Comparison]:
    """Every comparison, the declared one first: that one alone at 5%, the others after Holm.

    `right` says which images each run got right, where that is known and top-1 is asked about, and
    `groups` of which group each of them is.
    """
    metric, question = experiment.metric, experiment.question
    if len(results) and (metric not in results or results[metric].isna().any()):
        raise UserError(_NOT_THERE.format(metric))
    arms = samples(experiment, results, metric)
    asked = None if question is None else (question.arm, question.baseline)
    found = {(a, b): difference(arms[a], arms[b]) for a, b in pairs(experiment, arms)}
    found |= corrected({pair: each for pair, each in found.items() if pair != asked})
    return [
        _comparison(
            Comparison(
                arm=pair[0],
                other=pair[1],
                samples=(arms[pair[0]], arms[pair[1]]),
                difference=each,
                primary=pair == asked,
            ),
            right if right and metric == TOP1 else {},
            groups,
        )
        for pair, each in found.items()
    ]


def between(found: Collection[Comparison], arm: str, other: str) -> Comparison | None:
    """The comparison of two arms, turned round where it was made the other way; or None."""
    for each in found:
        if (each.arm, each.other) == (arm, other):
            return each
        if (each.arm, each.other) == (other, arm):
            gap = each.difference
            low, high = (None if end is None else -end for end in (gap.high, gap.low))
            turned = replace(gap, mean=-gap.mean, low=low, high=high)
            both = (each.samples[1], each.samples[0])
            return Comparison(
                arm=arm, other=other, samples=both, difference=turned, primary=each.primary
            )
    return None


def differences_from_baseline(
    experiment: Experiment, results: pd.DataFrame
) -> dict[str, Difference]:
    """Each other arm less the baseline, as the table has them."""
    found = compare(experiment, results)
    compared = {arm: between(found, arm, experiment.baseline) for arm in experiment.arms}
    return {arm: each.difference for arm, each in compared.items() if each is not None}


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


def load_groups(results: pd.DataFrame) -> Groups | None:
    """The number of each evaluated image's group, from the first predictions that are here.

    None where images have none.
    """
    models = (locate(str(checkpoint)) for checkpoint in results["checkpoint"])
    files = (Path(model.evaluation.predictions) for model in models if model is not None)
    first = next((file for file in files if file.exists()), None)
    if first is None or "group" not in pq.read_schema(first).names:
        return None
    groups: Groups = pq.read_table(first, columns=["group"])["group"].to_numpy()
    return groups


def _comparison(
    found: Comparison, right: Mapping[str, RightBySeed], groups: Groups | None
) -> Comparison:
    """With what the images say, where all predictions are known."""
    ours, theirs = found.samples
    common = paired(ours, theirs)
    units = (common, common) if common else (units_of(ours), units_of(theirs))
    known = [right.get(name, {}) for name in (found.arm, found.other)]
    if not all(set(each.seeds) <= its.keys() for each, its in zip(units, known, strict=True)):
        return found
    hits = [
        np.stack([its[seed] for seed in each.seeds]) for each, its in zip(units, known, strict=True)
    ]
    shares = [by_unit(hit, each.labels) for hit, each in zip(hits, units, strict=True)]
    if groups is not None:
        shares = [by_group(each, groups) for each in shares]
    return replace(
        found,
        images=image_test(hits[0], hits[1], groups) if common else None,
        bootstrap=bootstrap(*shares, paired=bool(common)),
    )
