"""How much of a result's variance is the pretraining's: crossed random effects.

P pretrainings, each finetuned with the same F seeds, one run per pair: top-1 = mean + pretraining
+ finetuning seed + rest, all random. A finetuning seed draws the same labelled images for every
pretraining, so its effect is common to them; a one-way analysis (seeds nested in pretrainings)
would count it within the pretrainings only, and find too little variance between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats


@dataclass(frozen=True, kw_only=True)
class Component:
    """A variance with its interval. The estimate can be negative; the interval's ends are >= 0."""

    variance: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Split:
    """Variance between pretrainings, and within one: between the finetunings of it."""

    pretrainings: int
    finetunings: int  # of each pretraining
    mean: float
    between: Component
    within: Component
    share: Component  # between / (between + within), in [0, 1]; `variance` is this share
    f: float  # F statistic of 'no variance between pretrainings'; inf where nothing else varies
    p: float  # its p-value, one-sided


def split(values: ArrayLike, *, level: float = 0.95) -> Split:
    """Variance components of values [P pretrainings, F finetuning seeds], both at least 2.

    Mean squares A (pretrainings), B (seeds), E (rest) have the expectations e + F a, e + P b, e.
    between = a: (A - E) / F, with the modified large-sample interval of a difference (Ting,
    Burdick, Graybill, Jeyaratnam, Lu 1990). within = b + e: (B + (P - 1) E) / P, with that of a sum
    (Graybill, Wang 1980). share: ICC(A,1) of McGraw and Wong (1996) with their interval.
    f = A / E.
    """
    array = np.asarray(values, np.float64)
    assert array.ndim == 2, "pretrainings by finetuning seeds"
    assert min(array.shape) >= 2, "at least two of both"
    n, k = array.shape
    rows, columns, mean = array.mean(axis=1), array.mean(axis=0), float(array.mean())
    a = k * float(((rows - mean) ** 2).sum()) / (n - 1)
    b = n * float(((columns - mean) ** 2).sum()) / (k - 1)
    rest = array - rows[:, None] - columns[None, :] + mean
    freedom = (n - 1) * (k - 1)
    e = float((rest**2).sum()) / freedom
    f = a / e if e > 0 else math.inf if a > 0 else math.nan
    return Split(
        pretrainings=n,
        finetunings=k,
        mean=mean,
        between=_difference((1 / k, a, n - 1), (1 / k, e, freedom), level=level),
        within=_sum((1 / n, b, k - 1), ((n - 1) / n, e, freedom), level=level),
        share=_share(a, b, e, n=n, k=k, level=level),
        f=f,
        p=float(stats.f.sf(f, n - 1, freedom)),
    )


# A term of a linear combination: coefficient, mean square, its degrees of freedom.
_Term = tuple[float, float, int]


def _spread(freedom: int, level: float) -> tuple[float, float]:
    """1 - 1 / q and 1 / q' - 1 for the upper and lower quantiles q, q' of chi-squared / freedom."""
    tail = (1 - level) / 2
    upper = stats.chi2.isf(tail, freedom) / freedom
    lower = stats.chi2.ppf(tail, freedom) / freedom
    return float(1 - 1 / upper), float(1 / lower - 1)


def _sum(*terms: _Term, level: float) -> Component:
    parts = [(c * square, *_spread(freedom, level)) for c, square, freedom in terms]
    total = sum(part for part, _, _ in parts)
    below = math.sqrt(sum((g * part) ** 2 for part, g, _ in parts))
    above = math.sqrt(sum((h * part) ** 2 for part, _, h in parts))
    return Component(variance=total, low=max(0.0, total - below), high=total + above)


def _difference(first: _Term, second: _Term, *, level: float) -> Component:
    (c1, square1, n1), (c2, square2, n2) = first, second
    x, y = c1 * square1, c2 * square2
    (g1, h1), (g2, h2) = _spread(n1, level), _spread(n2, level)
    tail = (1 - level) / 2
    upper, lower = float(stats.f.isf(tail, n1, n2)), float(stats.f.ppf(tail, n1, n2))
    g12 = ((upper - 1) ** 2 - (g1 * upper) ** 2 - h2**2) / upper
    h12 = ((1 - lower) ** 2 - (h1 * lower) ** 2 - g2**2) / lower
    below = (g1 * x) ** 2 + (h2 * y) ** 2 + g12 * x * y
    above = (h1 * x) ** 2 + (g2 * y) ** 2 + h12 * x * y
    return Component(
        variance=x - y,
        low=max(0.0, x - y - math.sqrt(max(0.0, below))),
        high=max(0.0, x - y + math.sqrt(max(0.0, above))),
    )


def _share(a: float, b: float, e: float, *, n: int, k: int, level: float) -> Component:
    total = a + (k - 1) * e + k * (b - e) / n
    if total <= 0:
        return Component(variance=math.nan, low=math.nan, high=math.nan)
    share = min(1.0, max(0.0, (a - e) / total))
    tail = (1 - level) / 2
    if share == 1:
        return Component(variance=1.0, low=1.0, high=1.0)
    x = k * share / (n * (1 - share))
    y = 1 + k * share * (n - 1) / (n * (1 - share))
    parts = (x * b, y * e)
    # Satterthwaite's degrees of freedom
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / (k - 1) + parts[1] ** 2 / ((n - 1) * (k - 1)))
    others = k * b + (k * n - k - n) * e
    over = float(stats.f.isf(tail, n - 1, freedom))
    under = float(stats.f.isf(tail, freedom, n - 1))
    low = n * (a - over * e) / (over * others + n * a)
    high = n * (under * a - e) / (others + n * under * a)
    return Component(variance=share, low=max(0.0, low), high=min(1.0, max(0.0, high)))
