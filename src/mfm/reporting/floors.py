"""Floors: what is reached without training a network, and what pretraining put into its features.

Both from the accuracies on frozen features: raw pixels, features of random weights, and of the
weights that each arm starts from, with the labelled images of each seed.
"""

from __future__ import annotations

from dataclasses import dataclass

from mfm.evaluation.frozen.settings import LOGISTIC, PIXELS, RANDOM
from mfm.evaluation.metrics import TOP1
from mfm.experiment.resolve import own_amount
from mfm.reporting.document import Bold, Bullets, Column, Section, Table, Text
from mfm.reporting.finished import Finished
from mfm.reporting.frozen import shown
from mfm.reporting.verdict import samples
from mfm.reporting.words import difference, listed, percentage
from mfm.statistics import over_seeds
from mfm.statistics.over_seeds import Estimate, estimate
from mfm.statistics.units import Sample

_OF = {PIXELS: "pixels", RANDOM: "features of random weights"}


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
    each = [(name, _sample(found, name)) for name in _OF]
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
        frozen = _sample(found, name)
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


def _sample(found: Finished, features: str) -> Sample | None:
    """What logistic regression reads with as many labels as the arms are finetuned on."""
    if found.readings is None:
        return None
    return found.readings.sample(features, LOGISTIC, own_amount(found.experiment).name)


@dataclass(frozen=True, kw_only=True)
class _Features:
    """One kind of frozen features, and what was read from them."""

    name: str
    found: Finished

    def top1(self) -> Text:
        sample = _sample(self.found, self.name)
        if sample is None:
            return "-"
        if self.name in {floor.features for floor in floors(self.found)}:
            return "see above"
        return percentage(estimate(sample))

    def gain(self, other: str) -> str:
        """Over random weights, or pixels."""
        sample, its = (_sample(self.found, name) for name in (self.name, other))
        if sample is None or its is None or self.name in _OF:
            return "-"
        return difference(over_seeds.difference(sample, its))


LEARNED: list[Column[_Features]] = [
    Column("frozen features of", lambda row: shown(row.name)),
    Column("logistic regression, % (95% interval)", lambda row: row.top1()),
    Column("less random weights", lambda row: row.gain(RANDOM)),
    Column("less raw pixels", lambda row: row.gain(PIXELS)),
]


def learned(found: Finished) -> list[Section]:
    """What can be read from the weights that arms start from, without finetuning them."""
    readings = found.readings
    if readings is None:
        return []
    notes: list[Text] = [
        "Read with each seed's labelled images from features that are not trained further. None "
        "of these differences is tested. Other amounts of labels, and nearest neighbours: "
        "probe.md."
    ]
    rows = [_Features(name=name, found=found) for name in readings.features]
    return [Section("What pretraining learned", [Table(LEARNED, rows), Bullets(notes)])]
