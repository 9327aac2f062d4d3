"""Variance components against a float64 reference and by simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mfm.statistics.variance import split

# Shrout and Fleiss (1979): six targets, four judges.
JUDGES = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]


def test_published_example():
    """McGraw and Wong's ICC(A,1) of it is 0.290, with the interval 0.019 to 0.761."""
    found = split(JUDGES)
    assert found.share.variance == pytest.approx(0.290, abs=5e-4)
    assert found.share.low == pytest.approx(0.019, abs=5e-4)
    assert found.share.high == pytest.approx(0.761, abs=5e-4)
    assert found.f == pytest.approx(11.027, abs=5e-3)
    assert found.p == pytest.approx(0.000135, rel=0.01)


def test_components_solve_the_expected_mean_squares():
    """The reference removes the effects one after the other by least squares."""
    values = np.random.default_rng(0).normal(size=(4, 3))
    n, k = values.shape
    row, column = np.repeat(np.eye(n), k, axis=0), np.tile(np.eye(k), (n, 1))
    ones = np.ones((n * k, 1))

    def residual(*blocks):
        design = np.hstack(blocks)
        fitted = design @ np.linalg.lstsq(design, values.ravel(), rcond=None)[0]
        return ((values.ravel() - fitted) ** 2).sum()

    both = residual(ones, row, column)
    e = both / ((n - 1) * (k - 1))
    a = (residual(ones, column) - both) / (n - 1)
    b = (residual(ones, row) - both) / (k - 1)
    found = split(values)
    assert found.between.variance == pytest.approx((a - e) / k)
    assert found.within.variance == pytest.approx((b - e) / n + e)
    assert found.f == pytest.approx(a / e)


@pytest.mark.parametrize(
    ("between", "seeds", "rest"), [(1, 1, 1), (0.1, 2, 0.5), (0, 1, 1), (3, 0, 0.3)]
)
def test_intervals_cover(between, seeds, rest):
    generator = np.random.default_rng(7)
    n, k, runs = 4, 5, 300
    within, hits, errors = seeds**2 + rest**2, np.zeros(3), 0
    share = between**2 / (between**2 + within)
    for _ in range(runs):
        values = between * generator.normal(size=(n, 1)) + seeds * generator.normal(size=(1, k))
        found = split(values + rest * generator.normal(size=(n, k)))
        truths = ((found.between, between**2), (found.within, within), (found.share, share))
        hits += [part.low <= truth <= part.high for part, truth in truths]
        errors += found.p < 0.05
    # Nominal 95%, the share's by an approximation; three standard errors of the simulation are 3.8.
    assert (hits / runs > 0.91).all(), hits / runs
    if between == 0:
        assert 0.015 < errors / runs < 0.09


def test_without_an_effect_of_seeds_the_lower_end_is_that_of_the_f_test():
    """The interval excludes zero exactly where F is significant (two-sided at 5%)."""
    generator = np.random.default_rng(3)
    for _ in range(50):
        values = generator.normal(size=(5, 4)) + generator.normal(size=(5, 1))
        found = split(values)
        significant = found.f > stats.f.isf(0.025, 4, 12)
        assert (found.between.low > 0) == significant


@given(
    shift=st.floats(-90, 90), scale=st.floats(0.1, 10), seed=st.integers(0, 99), k=st.integers(2, 6)
)
def test_shift_and_scale(shift, scale, seed, k):
    values = np.random.default_rng(seed).normal(size=(3, k))
    plain, moved = split(values), split(scale * values + shift)
    for part in ("between", "within"):
        ours, theirs = getattr(plain, part), getattr(moved, part)
        for end in ("variance", "low", "high"):
            assert getattr(theirs, end) == pytest.approx(scale**2 * getattr(ours, end), abs=1e-6)
    assert moved.share.high == pytest.approx(plain.share.high, abs=1e-6)
    assert moved.p == pytest.approx(plain.p, abs=1e-6)


def test_equal_values_have_no_variance():
    found = split(np.full((3, 2), 80.0))
    assert (found.between.variance, found.between.high, found.within.high) == (0, 0, 0)
    assert np.isnan(found.share.variance)
    assert np.isnan(found.p)
