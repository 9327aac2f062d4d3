"""Floors: what is reached without training a network, and what pretraining put into its features.

Both from the accuracies on frozen features: raw pixels, features of random weights, and of the
weights that each arm starts from, with the labelled images of each seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from mfm.evaluation.frozen.settings import PIXELS, RANDOM
from mfm.evaluation.metrics import TOP1
from mfm.reporting.document import Bold, Bullets, Column, Section, Table, Text
from mfm.reporting.finished import Finished
from mfm.reporting.verdict import sample_of, samples
from mfm.reporting.words import difference, listed, percentage
from mfm.statistics import over_seeds
from mfm.statistics.over_seeds import Estimate, estimate
from mfm.statistics.units import Sample

_OF = {PIXELS: "pixels", RANDOM: "features of random weights"}
_NAMES = {PIXELS: "none: raw pixels", RANDOM: "random weights"}


@dataclass(frozen=True, kw_only=True)
class Floor:
    """Logistic regression without any training before it."""

    features: str
    top1: Estimate

    @property
    def name(self) -> str:
        """As the table and the warning call it."""
        return f"logistic regression on {_OF[self.features]}"


def floors(found: Finished) -> list[Floor]:
    """Those that were measured, for a table of accuracies."""
    if found.experiment.metric != TOP1:
        return []
    each = [(name, _sample(found, name, "logistic")) for name in _OF]
    return [Floor(features=name, top1=estimate(its)) for name, its in each if its is not None]


def below(found: Finished) -> dict[str, list[Floor]]:
    """Arms whose mean is below that of a floor, with those floors."""
    arms = samples(found.experiment, found.results)
    means = {name: estimate(arms[name]).mean for name in found.arms}
    under = {
        name: [floor for floor in floors(found) if mean < floor.top1.mean]
        for name, mean in means.items()
    }
    return {name: those for name, those in under.items() if those}


def warning(found: Finished) -> list[Text]:
    """A sentence that names the arms below a floor; none where all are above."""
    groups: dict[str, list[str]] = {}
    for arm, those in below(found).items():
        groups.setdefault(listed(_OF[floor.features] for floor in those), []).append(arm)
    parts = [
        f"{listed(arms)} stay{'s' * (len(arms) == 1)} below logistic regression on {those}"
        for those, arms in groups.items()
    ]
    if not parts:
        return []
    return [
        Bold(
            f"Below a floor: {'; '.join(parts)}. Such an arm is no evidence of what a network "
            "can do here: train it longer, or with another learning rate, before comparing."
        )
    ]


def lost(found: Finished) -> list[Text]:
    """A sentence on arms that are better before they are finetuned, in a table of accuracies."""
    if found.experiment.metric != TOP1:
        return []
    arms = samples(found.experiment, found.results)
    worse = []
    for name in found.arms:
        frozen = _sample(found, name, "logistic")
        if frozen is not None and estimate(frozen).mean > estimate(arms[name]).mean:
            worse.append(name)
    if not worse:
        return []
    does = "is" if len(worse) == 1 else "are"
    return [
        Bold(
            f"Better before finetuning: logistic regression on the frozen features of "
            f"{listed(worse)} is above {'its' if does == 'is' else 'their'} accuracy here, so this "
            "finetuning loses what the pretraining knew. The comparison is of this recipe."
        )
    ]


def _sample(found: Finished, features: str, method: str) -> Sample | None:
    rows = found.frozen
    if rows is None:
        return None
    part = rows[(rows["features"] == features) & (rows["method"] == method)]
    if part.empty:
        return None
    if features in _OF:
        return Sample(values=_by_seed(part))
    return sample_of(found.experiment, features, part)


def _by_seed(rows: pd.DataFrame) -> dict[int, float]:
    return {int(seed): float(top1) for seed, top1 in zip(rows["seed"], rows["top1"], strict=True)}


@dataclass(frozen=True, kw_only=True)
class _Features:
    """One kind of frozen features, and what was read from them."""

    name: str
    found: Finished
    above: bool  # whether the floors' rows stand above

    def top1(self, method: str) -> Text:
        sample = _sample(self.found, self.name, method)
        if sample is None:
            return "-"
        in_table = self.above and self.name in {floor.features for floor in floors(self.found)}
        if in_table and method == "logistic":
            return "see above"
        return percentage(estimate(sample))

    def gain(self, method: str, other: str = RANDOM) -> str:
        """Over random weights, or pixels."""
        sample, its = (_sample(self.found, name, method) for name in (self.name, other))
        if sample is None or its is None or self.name in _OF:
            return "-"
        return difference(over_seeds.difference(sample, its))


LEARNED: list[Column[_Features]] = [
    Column("frozen features of", lambda row: _NAMES.get(row.name, row.name)),
    Column("logistic regression, % (95% interval)", lambda row: row.top1("logistic")),
    Column("less random weights", lambda row: row.gain("logistic")),
    Column("less raw pixels", lambda row: row.gain("logistic", PIXELS)),
    Column("nearest neighbours, % (95% interval)", lambda row: row.top1("knn")),
    Column("less random weights", lambda row: row.gain("knn")),
]


def learned(found: Finished, *, above: bool = True) -> list[Section]:
    """What can be read from the weights that arms start from, without finetuning them.

    `above`: the floors have rows above.
    """
    if found.frozen is None:
        return []
    known = set(found.frozen["features"])
    names = [name for name in (PIXELS, RANDOM, *found.experiment.arms) if name in known]
    notes: list[Text] = [
        "Read with each seed's labelled images from features that are not trained further. "
        "None of these differences is tested."
    ]
    rows = [_Features(name=name, found=found, above=above) for name in names]
    return [Section("What pretraining learned", [Table(LEARNED, rows), Bullets(notes)])]
