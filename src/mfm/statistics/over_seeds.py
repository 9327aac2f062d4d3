"""Means, intervals and differences over seeds and pretrainings.

The evaluated images are given here. What another draw of images would add is in `over_images`, how
many seeds and pretrainings it takes in `power`; what a unit is, in `units`.

A mean is that of the units' means, each unit with the same weight, and its t interval is that of
those means, with one degree of freedom less than units. With equally many runs a pretraining, that
is exact for a random effect of the pretraining, however large, and no variance has to be estimated
within. With unequal numbers the units' means have unequal variances, and the t test remains valid:
for normal values of unequal variances it holds its level wherever that is below 8.3% (N. K.
Bakirov, G. J. Székely, J. Math. Sci. 139, 2006, 6497-6505; as the way to treat clusters: R.
Ibragimov, U. K. Müller, J. Bus. Econ. Stat. 28, 2010, 453-468; and before them Y. Benjamini,
J. Am. Stat. Assoc. 78, 1983, 645-654). So intervals cover in 95% or more.

Given a single pretraining, the units are runs, and everything is about that one pretraining: what
another would give is in no interval. `conditional` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
from scipy import special

from mfm.statistics.exact import permutation_p, sign_flip_p
from mfm.statistics.units import Sample as Sample
from mfm.statistics.units import paired, units_of

LEVEL = 0.95
SIGNIFICANT = 0.05
FEWEST = 6  # pairs whose exact p can be below 5% (2 / 2^6)
# Units of each of two arms that do not pair: 3 and 3 can't be below 5% (2 / 20), and a larger other
# arm tells no more of the spread of a small one. (2 and 6 units of which the 2 spread three times
# as much gave a wrong verdict in 9% of simulated experiments.)
FEWEST_EACH = 4
Key = TypeVar("Key")
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """An arm's mean with its t interval; deviation and interval are None for a single unit."""

    n: int  # runs
    units: int
    mean: float
    deviation: float | None  # sample standard deviation of the units' means (n - 1)
    low: float | None
    high: float | None
    conditional: bool = False  # given a single pretraining


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An arm's mean less the baseline's, with a t interval (None where it can't be computed)."""

    method: Literal["paired", "welch"]
    n: int  # seed pairs, or the smaller arm's seeds
    units: int  # that the interval rests on; of the smaller arm where they are not paired
    mean: float
    low: float | None
    high: float | None
    conditional: bool = False  # given the single pretraining of one arm or of both
    deviation: float | None = None  # sample standard deviation of one unit's difference
    freedom: float | None = None  # degrees of freedom of the interval
    p: float | None = None  # two-sided, of no difference, by the t test
    exact_p: float | None = None  # by sign changes of the units, or by their permutation
    adjusted: float | None = None  # p after Holm's correction, where there are more comparisons
    adjusted_exact: float | None = None  # exact_p after it
    comparisons: int = 1  # that both are corrected for
    lower_is_better: bool = False

    @property
    def gains(self) -> bool:
        """Whether the mean is in the arm's favour."""
        return (self.mean > 0) != self.lower_is_better

    @property
    def claims_gain(self) -> bool:
        """Whether the verdict is in its favour: better, or suggestive."""
        return self.gains and self.verdict not in ("no verdict", "not distinguishable")

    @property
    def verdict(self) -> str:
        """In words: what two tests of no difference say, one of which takes values as normal.

        'better' and 'worse' need both below 5%, each after Holm's correction where there is one.
        One alone is 'suggestive': the tests disagree, or there are too few units for the exact
        one to be below 5% (fewer than 6 pairs; fewer than 4 units in each arm that does not pair).
        An interval that just excludes zero is no verdict where it is one of several.
        """
        if self.p is None or self.exact_p is None:
            return "no verdict"
        by_t = self.p if self.adjusted is None else self.adjusted
        by_rank = self.exact_p if self.adjusted_exact is None else self.adjusted_exact
        clear = (by_t < SIGNIFICANT) + (by_rank < SIGNIFICANT)
        if clear == 2 and self.units >= FEWEST_EACH:
            return "better" if self.gains else "worse"
        if clear:
            return f"suggestive ({'higher' if self.mean > 0 else 'lower'})"
        return "not distinguishable"


def estimate(sample: Sample) -> Estimate:
    """Mean, sample standard deviation and t interval of one arm."""
    units = units_of(sample)
    values = units.means(sample.values)
    count, mean = len(values), float(values.mean())
    deviation = _deviation(values, sample.rounding)
    low = high = None
    if deviation is not None:
        half = t_quantile(count - 1) * deviation / count**0.5
        low, high = mean - half, mean + half
    return Estimate(
        n=len(units.seeds),
        units=count,
        mean=mean,
        deviation=deviation,
        low=low,
        high=high,
        conditional=units.conditional,
    )


def difference(arm: Sample, baseline: Sample) -> Difference:
    """Difference of two arms.

    Where their seeds pair (`units.paired`), the t interval of the units' mean differences: what a
    seed does to both arms is in no difference, and two pretrainings of the same index are one
    unit. Otherwise Welch's interval, for unequal variances and numbers, over each arm's own units.
    A seed that both have then makes their means go together, so that interval is too wide rather
    than too narrow.
    """
    pairs = paired(arm, baseline)
    if pairs is None:
        return _unpaired(arm, baseline)
    values = pairs.means({seed: arm.values[seed] - baseline.values[seed] for seed in pairs.seeds})
    count, deviation = len(values), _deviation(values, arm.rounding)
    found = Difference(
        method="paired",
        n=len(pairs.seeds),
        units=count,
        mean=float(values.mean()),
        low=None,
        high=None,
        conditional=pairs.conditional,
        deviation=deviation,
        lower_is_better=arm.lower_is_better,
    )
    if deviation is None:
        return found
    found = _with_interval(found, error=deviation / count**0.5, freedom=count - 1)
    if not deviation:
        return found
    return replace(found, exact_p=sign_flip_p(values, tolerance=arm.rounding))


def _unpaired(arm: Sample, baseline: Sample) -> Difference:
    units = units_of(arm), units_of(baseline)
    ours, theirs = units[0].means(arm.values), units[1].means(baseline.values)
    found = Difference(
        method="welch",
        n=min(len(each.seeds) for each in units),
        units=min(len(ours), len(theirs)),
        mean=float(ours.mean() - theirs.mean()),
        low=None,
        high=None,
        conditional=any(each.conditional for each in units),
        lower_is_better=arm.lower_is_better,
    )
    first, second = _deviation(ours, arm.rounding), _deviation(theirs, arm.rounding)
    if first is None or second is None:
        return found
    found = replace(found, deviation=float(np.hypot(first, second)))
    if not found.deviation:
        return _with_interval(found, error=0, freedom=1)
    a, b = first**2 / len(ours), second**2 / len(theirs)
    freedom = (a + b) ** 2 / (a**2 / (len(ours) - 1) + b**2 / (len(theirs) - 1))
    return replace(
        _with_interval(found, error=(a + b) ** 0.5, freedom=freedom),
        exact_p=permutation_p(ours, theirs, tolerance=arm.rounding),
    )


def _with_interval(found: Difference, *, error: float, freedom: float) -> Difference:
    """With the interval of a standard error, and where that isn't zero with the t test's p."""
    half = t_quantile(freedom) * error
    found = replace(found, low=found.mean - half, high=found.mean + half)
    if not error:
        return found
    p = 2 * float(special.stdtr(freedom, -abs(found.mean) / error))
    return replace(found, freedom=float(freedom), p=p)


def _deviation(values: Values, rounding: float) -> float | None:
    """Sample standard deviation; 0 for what is equal but for rounding, None for one value."""
    if len(values) < 2:
        return None
    return 0.0 if np.ptp(values) < rounding else float(values.std(ddof=1))


def corrected(found: Mapping[Key, Difference]) -> dict[Key, Difference]:
    """Differences with Holm's correction of both p, over those that have them.

    Holm's correction bounds the probability of any wrong verdict among them by 5%, however the
    differences depend on each other; sharing a baseline makes them dependent.
    """
    tested = [name for name, each in found.items() if each.p is not None]
    if len(tested) < 2:
        return dict(found)
    by_t = dict(zip(tested, holm([found[name].p or 0.0 for name in tested]), strict=True))
    exact = dict(zip(tested, holm([found[name].exact_p or 0.0 for name in tested]), strict=True))
    return {
        name: replace(
            each,
            adjusted=by_t.get(name),
            adjusted_exact=exact.get(name),
            comparisons=len(tested),
        )
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
