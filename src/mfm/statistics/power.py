"""Power of the t test over seed pairs, exactly: how many seeds resolve a difference."""

from __future__ import annotations

import numpy as np
from scipy import optimize, stats

from mfm.statistics.over_seeds import LEVEL, t_quantile

POWER = 0.8
MOST = 10**7  # seeds


def power(n: int, points: float, deviation: float, *, level: float = LEVEL) -> float:
    """Probability that the paired t test over `n` seeds finds a difference of `points`.

    `deviation` is the standard deviation of one seed's difference, also in points. Exact, by the
    noncentral t distribution, both tails. That is statsmodels' TTestPower to 1e-15, which has no
    number for a power that is nearly 1 (4 seeds and an effect of 4 deviations: 0.998), because
    scipy's series ends there.
    """
    assert n >= 2, n
    assert deviation > 0, deviation
    freedom, limit = n - 1, t_quantile(n - 1, level=level)
    shift = abs(points) / deviation * np.sqrt(n)
    upper = stats.nct.sf(limit, freedom, shift)
    if not np.isfinite(upper):  # far beyond the limit, where scipy's series ends
        upper = stats.norm.sf(limit - shift)
    lower = stats.nct.cdf(-limit, freedom, shift)
    return float(upper + (lower if np.isfinite(lower) else 0.0))


def seeds_needed(
    points: float, deviation: float, *, target: float = POWER, level: float = LEVEL
) -> int:
    """Fewest seed pairs, from 2, with which a difference of `points` is found."""
    assert points > 0, points

    def enough(n: int) -> bool:
        return power(n, points, deviation, level=level) >= target

    if deviation == 0 or enough(2):
        return 2
    high = 4
    while not enough(high) and high < MOST:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def smallest_difference(
    n: int, deviation: float, *, target: float = POWER, level: float = LEVEL
) -> float:
    """The difference, in points, that `n` seed pairs find with probability `target`."""
    top = deviation * 2 * (t_quantile(n - 1, level=level) + 10)
    return float(
        optimize.brentq(
            lambda points: power(n, points, deviation, level=level) - target, 1e-9 * top, top
        )
    )


def deviation_interval(
    deviation: float, freedom: float, *, level: float = LEVEL
) -> tuple[float, float]:
    """Chi-square interval of a standard deviation estimated with `freedom` degrees of freedom."""
    tail = (1 - level) / 2
    low, high = (
        deviation * float(np.sqrt(freedom / stats.chi2.ppf(share, freedom)))
        for share in (1 - tail, tail)
    )
    return low, high
