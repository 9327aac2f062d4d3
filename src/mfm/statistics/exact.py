"""Exact p values, without the assumption that values are normal.

Both are shares of rearrangements that are at least as extreme as what was found.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from math import comb

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

_MOST_UNITS = 20  # whose 2^20 sign changes are all taken
_MOST_ASSIGNMENTS = 200_000  # which are all taken
_DRAWN = 2**16  # where there are more


def sign_flip_p(differences: Values, *, tolerance: float) -> float:
    """Two-sided p of no difference: all sign changes of the units' differences.

    If the arms are alike, a unit's difference is as likely to be d as -d, whatever the form and the
    spread of its distribution, which may differ between units (R. A. Fisher, The Design of
    Experiments, 1935, section 21). The smallest p of n units is 2 / 2^n: below 5% from 6 on. Of
    more than 20 units, 65,536 changes are drawn, by a fixed seed; near 5% p is then off by 0.001.
    Sums that are no further apart than `tolerance`, as equal ones are by their values' rounding,
    are equally extreme.
    """
    n = len(differences)
    limit = abs(float(differences.sum())) - tolerance
    if n > _MOST_UNITS:
        signs = np.random.default_rng(0).integers(0, 2, (_DRAWN, n), np.int8)
        return _of_drawn(np.abs((2.0 * signs - 1) @ differences) >= limit)
    sums = differences[:1]  # the first sign can stay: changing all gives the same size
    for value in differences[1:]:
        sums = np.concatenate([sums + value, sums - value])
    return float(np.mean(np.abs(sums) >= limit))


def permutation_p(first: Values, second: Values, *, tolerance: float) -> float:
    """Two-sided p of no difference: all assignments of the units to two arms of these sizes.

    Exact where the arms' units have one distribution. The statistic is Welch's t and not the
    difference of means, so that the p stays near its level where only the means are the same
    (A. Janssen, Statist. Probab. Lett. 36, 1997, 9-21). Of more than 200,000 assignments, 65,536
    are drawn, by a fixed seed. A standard error below `tolerance` is that of the values' rounding.
    """
    both = np.concatenate([first, second])
    both = both - both.mean()
    found = _welch((np.arange(len(both)) < len(first))[None].astype(float), both, tolerance)[0]
    # A difference of nothing is rounding alone, so the margin is absolute, too.
    beyond = _welch(_assignments(len(first), len(both)), both, tolerance) >= found - 1e-9 * (
        found + 1
    )
    all_of_them = comb(len(both), len(first)) <= _MOST_ASSIGNMENTS
    return float(np.mean(beyond)) if all_of_them else _of_drawn(beyond)


@lru_cache(maxsize=4)
def _assignments(n: int, total: int) -> Values:
    """All ways to choose n of so many units for the first arm, or drawn ones: 1 for the chosen."""
    if comb(total, n) <= _MOST_ASSIGNMENTS:
        chosen = np.array(list(combinations(range(total), n)))
    else:
        order = np.tile(np.arange(total), (_DRAWN, 1))
        chosen = np.random.default_rng(0).permuted(order, axis=1)[:, :n]
    here = np.zeros((len(chosen), total))
    np.put_along_axis(here, chosen, 1.0, axis=1)
    return here


def _welch(here: Values, both: Values, tolerance: float) -> Values:
    """Size of Welch's t for assignments [assignments, units] to the first arm."""
    n = round(float(here[0].sum()))
    rest = len(both) - n
    sums, squares = here @ both, here @ both**2
    others, other_squares = both.sum() - sums, (both**2).sum() - squares
    variance = (squares - sums**2 / n) / (n * (n - 1))
    variance = variance + (other_squares - others**2 / rest) / (rest * (rest - 1))
    t: Values = (sums / n - others / rest) / np.sqrt(np.maximum(variance, tolerance**2))
    return np.abs(t)


def _of_drawn(beyond: npt.NDArray[np.bool_]) -> float:
    """P from drawn rearrangements, of which what was found is one more: never zero.

    B. Phipson, G. K. Smyth, Statist. Appl. Genet. Mol. Biol. 9, 2010, 39.
    """
    return float((beyond.sum() + 1) / (len(beyond) + 1))
