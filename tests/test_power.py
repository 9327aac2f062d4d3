import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from mfm.statistics.power import deviation_interval, power, seeds_needed, smallest_difference


@pytest.mark.parametrize("n", [2, 3, 6, 20, 400])
@pytest.mark.parametrize("effect", [0.1, 0.5, 1.5, 4.0])
@pytest.mark.parametrize("level", [0.95, 0.975])
def test_power_is_that_of_statsmodels(n, effect, level):
    expected = TTestPower().power(effect, n, 1 - level, alternative="two-sided")
    if np.isnan(expected):  # statsmodels', where the power is 1
        expected = 1
    assert power(n, 0.7 * effect, 0.7, level=level) == pytest.approx(expected, abs=1e-9)


def test_a_published_number_of_pairs():
    # J. Cohen, Statistical Power Analysis, 1988, and G*Power: 34 pairs for d = 0.5, 80%, 5%.
    assert seeds_needed(0.5, 1.0) == 34
    assert seeds_needed(0.2, 1.0) == 199


def test_power_is_the_share_of_experiments_that_find_the_difference():
    drawn = np.random.default_rng(0).normal(0.5, 0.6, (20000, 6))
    found = np.mean(stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05)
    assert power(6, 0.5, 0.6) == pytest.approx(found, abs=0.012)


@pytest.mark.parametrize("points", [0.1, 0.2, 0.5, 1.0, 30.0])
@pytest.mark.parametrize("deviation", [0.0, 0.1, 0.9, 3.0])
def test_one_seed_fewer_is_too_few(points, deviation):
    n = seeds_needed(points, deviation)
    if deviation == 0:
        assert n == 2
        return
    assert power(n, points, deviation) >= 0.8
    assert n == 2 or power(n - 1, points, deviation) < 0.8


@pytest.mark.parametrize("n", [2, 3, 6, 30, 1000])
def test_the_smallest_difference_is_found_with_80_percent(n):
    points = smallest_difference(n, 0.7)
    assert power(n, points, 0.7) == pytest.approx(0.8, abs=1e-6)
    assert seeds_needed(points * 1.0001, 0.7) == n


def test_the_deviations_interval_covers():
    drawn = np.random.default_rng(0).normal(0, 2.0, (2000, 4)).std(axis=1, ddof=1)
    intervals = np.array([deviation_interval(float(sd), 3) for sd in drawn])
    assert np.mean((intervals[:, 0] <= 2) & (intervals[:, 1] >= 2)) == pytest.approx(
        0.95, abs=0.015
    )
