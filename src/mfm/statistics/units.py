"""Units: what is drawn independently, and so what a mean and its interval are taken over.

A run of a pretrained arm shares its pretraining with other runs of that arm. What that pretraining
happened to be is in all of them, so they are not independent; the pretrainings are. A run from
scratch has a beginning of its own, and is a unit.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One arm's values by finetuning seed, and the pretraining that each run started from."""

    values: Mapping[int, float]
    # By finetuning seed; None: from scratch, where every run has a beginning of its own. Weights
    # that were given, which this workflow did not pretrain, are one pretraining for all seeds.
    pretrainings: Mapping[int, Hashable] | None = None
    lower_is_better: bool = False
    # Accuracies come with four decimals, each off by up to 5e-5, so two differences of them by
    # 2e-4: values that are no further apart are equal but for rounding.
    rounding: float = 2.5e-4


@dataclass(frozen=True, kw_only=True)
class Units:
    """Seeds, and the unit that each belongs to."""

    seeds: tuple[int, ...]
    labels: tuple[Hashable, ...]  # of each seed's unit; a run that is a unit is named by its seed
    conditional: bool  # given a single pretraining, so that runs are the units

    @property
    def count(self) -> int:
        """How many units there are."""
        return len(set(self.labels))

    def groups(self, values: Mapping[int, float]) -> list[list[float]]:
        """Values by unit."""
        found: dict[Hashable, list[float]] = {}
        for seed, label in zip(self.seeds, self.labels, strict=True):
            found.setdefault(label, []).append(values[seed])
        return list(found.values())

    def means(self, values: Mapping[int, float]) -> npt.NDArray[np.float64]:
        """Mean of each unit."""
        return np.array([float(np.mean(group)) for group in self.groups(values)])


def units_of(sample: Sample) -> Units:
    """One arm's units: its pretrainings, or its runs where there are none or a single one."""
    seeds = tuple(sorted(sample.values))
    labels = _labels(sample, seeds)
    if sample.pretrainings is not None and len(set(labels)) < 2:
        return Units(seeds=seeds, labels=seeds, conditional=True)
    return Units(seeds=seeds, labels=labels, conditional=False)


def paired(arm: Sample, baseline: Sample) -> Units | None:
    """The seeds over which two arms pair, with the units of their differences; None where not.

    A seed fixes the labelled images, their order and augmentation and the new layers' weights in
    every arm, so arms pair where one has all the seeds of the other. (One common seed pairs where
    neither arm has more.) A unit must hold all differences that share a pretraining of either arm.
    Where one arm's pretrainings divide the seeds further than the other's (4 into 2; runs from
    scratch into any), those are the coarser ones. Where that is one unit, all is given that one
    pretraining, and the finer ones are the units. Where neither divides the other (3 and 2), there
    are no such units, and the arms do not pair.
    """
    common = set(arm.values) & set(baseline.values)
    sizes = len(arm.values), len(baseline.values)
    if not common or len(common) < min(sizes) or (len(common) == 1 and max(sizes) > 1):
        return None
    seeds = tuple(sorted(common))
    both = _labels(arm, seeds), _labels(baseline, seeds)
    coarse, fine = sorted(both, key=lambda labels: len(set(labels)))
    if len(set(zip(fine, coarse, strict=True))) > len(set(fine)):
        return None
    conditional = any(
        sample.pretrainings is not None and len(set(labels)) < 2
        for sample, labels in zip((arm, baseline), both, strict=True)
    )
    labels = next((each for each in (coarse, fine) if len(set(each)) > 1), seeds)
    return Units(seeds=seeds, labels=labels, conditional=conditional)


def _labels(sample: Sample, seeds: Iterable[int]) -> tuple[Hashable, ...]:
    before = sample.pretrainings
    return tuple(seed if before is None else before[seed] for seed in seeds)
