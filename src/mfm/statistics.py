"""Means, intervals and differences over seeds (DESIGN section 8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import stats


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean with its t interval; deviation and interval are None for a single value."""

    n: int
    mean: float
    deviation: float | None  # sample standard deviation (n - 1)
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An arm's mean less the baseline's, with a t interval (None where it can't be computed)."""

    method: Literal["paired", "welch"]
    n: int  # pairs, or the smaller arm's seeds
    mean: float
    low: float | None
    high: float | None

    @property
    def verdict(self) -> str:
        """In words: better, worse, or not distinguishable with n seeds."""
        if self.low is None or self.high is None:
            return "no interval: needs at least 2 seeds"
        if self.low == self.high:
            return "no verdict: the seeds' differences are all equal"
        if self.low > 0:
            return "better"
        if self.high < 0:
            return "worse"
        return f"not distinguishable with {self.n} seeds"


def estimate(values: Sequence[float], *, level: float = 0.95) -> Estimate:
    """Mean, sample standard deviation and t interval of one arm's values."""
    array = np.asarray(values, np.float64)
    n, mean = len(array), float(array.mean())
    if n < 2:
        return Estimate(n=n, mean=mean, deviation=None, low=None, high=None)
    deviation = float(array.std(ddof=1))
    half = _half_width(deviation / np.sqrt(n), freedom=n - 1, level=level)
    return Estimate(n=n, mean=mean, deviation=deviation, low=mean - half, high=mean + half)


def difference(
    arm: Mapping[int, float], baseline: Mapping[int, float], *, level: float = 0.95
) -> Difference:
    """Difference of two arms, each a value by seed.

    Paired where one arm has all the seeds of the other: a seed fixes the labelled images, their
    order and augmentation and the new layers' weights in every arm, so what it does to one it does
    to the other. The mean is then that of the common seeds' differences. Otherwise, and where a
    single seed is common but one arm has more, Welch's interval, for unequal variances and numbers.
    """
    common = sorted(set(arm) & set(baseline))
    nested = len(common) == min(len(arm), len(baseline))
    if nested and (len(common) > 1 or len(arm) == len(baseline)):
        pairs = estimate([arm[seed] - baseline[seed] for seed in common], level=level)
        return Difference(
            method="paired", n=pairs.n, mean=pairs.mean, low=pairs.low, high=pairs.high
        )
    ours, theirs = estimate(list(arm.values())), estimate(list(baseline.values()))
    mean, n = ours.mean - theirs.mean, min(ours.n, theirs.n)
    if ours.deviation is None or theirs.deviation is None:
        return Difference(method="welch", n=n, mean=mean, low=None, high=None)
    parts = np.array([ours.deviation**2 / ours.n, theirs.deviation**2 / theirs.n])
    if parts.sum() == 0:
        return Difference(method="welch", n=n, mean=mean, low=mean, high=mean)
    # Welch-Satterthwaite degrees of freedom
    freedom = parts.sum() ** 2 / (parts**2 / (np.array([ours.n, theirs.n]) - 1)).sum()
    half = _half_width(float(np.sqrt(parts.sum())), freedom=float(freedom), level=level)
    return Difference(method="welch", n=n, mean=mean, low=mean - half, high=mean + half)


def _half_width(error: float, *, freedom: float, level: float) -> float:
    return float(stats.t.ppf(0.5 + level / 2, freedom) * error)
