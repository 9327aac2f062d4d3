"""Means, intervals and differences over seeds.

Everything here takes the evaluated images as given: the spread is that between seeds. What another
draw of images would add is in `over_images`, how many seeds it takes in `power`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import special, stats

# Accuracies come with four decimals, each off by up to 5e-5, so two differences of them by 2e-4:
# values that are no further apart are equal but for rounding.
_EQUAL = 2.5e-4
LEVEL = 0.95
Key = TypeVar("Key")


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
    deviation: float | None = None  # sample standard deviation of one seed's difference
    freedom: float | None = None  # degrees of freedom of the interval
    p: float | None = None  # two-sided, of no difference
    adjusted: float | None = None  # p after Holm's correction, where there are more comparisons
    comparisons: int = 1  # that `adjusted` is corrected for

    @property
    def verdict(self) -> str:
        """In words: better, worse, or not distinguishable with n seeds.

        By the corrected p, where there is one, and otherwise by the interval. So an interval that
        just excludes zero is no verdict where it is one of several.
        """
        if self.low is None or self.high is None:
            return "no interval: needs at least 2 seeds"
        if self.low == self.high:
            return "no verdict: the seeds' differences are all equal"
        clear = self.adjusted is None or self.adjusted < 1 - LEVEL
        if self.low > 0 and clear:
            return "better"
        if self.high < 0 and clear:
            return "worse"
        return f"not distinguishable with {self.n} seeds"


def estimate(values: Sequence[float], *, level: float = LEVEL) -> Estimate:
    """Mean, sample standard deviation and t interval of one arm's values."""
    array = np.asarray(values, np.float64)
    n, mean = len(array), float(array.mean())
    if n < 2:
        return Estimate(n=n, mean=mean, deviation=None, low=None, high=None)
    deviation = 0.0 if np.ptp(array) < _EQUAL else float(array.std(ddof=1))
    half = float(t_quantile(n - 1, level=level) * deviation / np.sqrt(n))
    return Estimate(n=n, mean=mean, deviation=deviation, low=mean - half, high=mean + half)


def difference(
    arm: Mapping[int, float], baseline: Mapping[int, float], *, level: float = LEVEL
) -> Difference:
    """Difference of two arms, each a value by seed.

    Paired where one arm has all the seeds of the other: a seed fixes the labelled images, their
    order and augmentation and the new layers' weights in every arm, so what it does to one it does
    to the other. The mean is then that of the common seeds' differences. Otherwise, and where a
    single seed is common but one arm has more, Welch's interval, for unequal variances and numbers.
    """
    common = paired_seeds(arm, baseline)
    if common:
        ours, theirs = ([values[seed] for seed in common] for values in (arm, baseline))
        pairs = estimate(list(np.subtract(ours, theirs)), level=level)
        found = Difference(
            method="paired",
            n=pairs.n,
            mean=pairs.mean,
            low=pairs.low,
            high=pairs.high,
            deviation=pairs.deviation,
        )
        if not pairs.deviation:
            return found
        return _tested(found, stats.ttest_rel(ours, theirs), level=level)
    ours, theirs = list(arm.values()), list(baseline.values())
    first, second = estimate(ours), estimate(theirs)
    mean, n = first.mean - second.mean, min(first.n, second.n)
    found = Difference(method="welch", n=n, mean=mean, low=None, high=None)
    if first.deviation is None or second.deviation is None:
        return found
    found = replace(found, deviation=float(np.hypot(first.deviation, second.deviation)))
    if found.deviation == 0:
        return replace(found, low=mean, high=mean)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of an arm whose seeds are all equal
        test = stats.ttest_ind(ours, theirs, equal_var=False)
    return _tested(found, test, level=level)


def _tested(found: Difference, test: Any, *, level: float) -> Difference:
    """With the interval and the p of scipy's test."""
    interval = test.confidence_interval(level)
    return replace(
        found,
        low=float(interval.low),
        high=float(interval.high),
        freedom=float(test.df),
        p=float(test.pvalue),
    )


def paired_seeds(arm: Mapping[int, object], baseline: Mapping[int, object]) -> list[int]:
    """The common seeds where `difference` pairs the arms, or none."""
    common = sorted(set(arm) & set(baseline))
    nested = len(common) == min(len(arm), len(baseline))
    return common if nested and (len(common) > 1 or len(arm) == len(baseline)) else []


def compare(
    arms: Mapping[str, Mapping[int, float]], baseline: str, *, level: float = LEVEL
) -> dict[str, Difference]:
    """Each other arm's difference from the baseline, corrected for their number."""
    found = {
        name: difference(values, arms[baseline], level=level)
        for name, values in arms.items()
        if name != baseline
    }
    return corrected(found)


def corrected(found: Mapping[Key, Difference]) -> dict[Key, Difference]:
    """Differences with Holm's correction, over those that have a p value.

    Holm's correction bounds the probability of any wrong verdict among them by 1 - level, however
    the differences depend on each other; sharing a baseline makes them dependent.
    """
    tested = {name: each.p for name, each in found.items() if each.p is not None}
    if len(tested) < 2:
        return dict(found)
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    return {
        name: replace(each, adjusted=adjusted.get(name), comparisons=len(tested))
        for name, each in found.items()
    }


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values (S. Holm, Scand. J. Statist. 6, 1979, 65-70), in the order given.

    The same as statsmodels' multipletests, which collects all garbage in each call: 0.1 s.
    """
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p, kind="stable")
    steps = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(steps))
    return [float(value) for value in adjusted]


def t_quantile(freedom: float | npt.NDArray[np.float64], *, level: float = LEVEL) -> float:
    """Half width of a two-sided t interval, in standard errors."""
    return float(special.stdtrit(freedom, 0.5 + level / 2))
