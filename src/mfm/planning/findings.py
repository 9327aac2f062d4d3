"""Findings to expect of a drafted experiment: which differences it tells from none, and which not.

How much runs differ is assumed until some are finished: what retraining alone does, as measured on
Fashion-MNIST, and what few evaluation images add, of which so many are decided by chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

from mfm.statistics.power import fewest, smallest_difference, units_needed

RETRAINED = 0.8  # points: standard deviation of one run's difference on many images
UNDECIDED = 0.15  # share of the images on which two runs differ by chance
POINTS = 2.0  # a difference that is worth a pretraining, of which more would be found by more
MOST_PRETRAININGS = 10


def deviation(val: int) -> float:
    """Standard deviation to expect of one run's difference on so many images, in points."""
    return round(sqrt(RETRAINED**2 + 100**2 * UNDECIDED / val), 2)


def pretrainings(val: int) -> int:
    """As many as find a difference of 2 points; enough for a clear answer, and not too many."""
    needed = units_needed(POINTS, deviation(val)) or MOST_PRETRAININGS
    return min(MOST_PRETRAININGS, max(fewest(), needed))


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What so many pretrainings find, with a probability of 80%."""

    pretrainings: int
    deviation: float

    @property
    def smallest(self) -> float:
        """The smallest difference, in points."""
        return smallest_difference(self.pretrainings, self.deviation)

    @property
    def clear(self) -> bool:
        """Whether so few can be called better or worse."""
        return self.pretrainings >= fewest()

    def for_points(self, points: float) -> int | None:
        """Pretrainings that find so many points; None where it takes too many to plan."""
        return units_needed(points, self.deviation)
