import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from mfm.statistics.exact import sign_flip_p
from mfm.statistics.power import (
    Components,
    components,
    deviation_interval,
    fewest,
    power,
    smallest_difference,
    units_needed,
)


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
    assert units_needed(0.5, 1.0) == 34
    assert units_needed(0.2, 1.0) == 199


def test_power_is_the_share_of_experiments_that_find_the_difference():
    drawn = np.random.default_rng(0).normal(0.5, 0.6, (20000, 6))
    found = np.mean(stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05)
    assert power(6, 0.5, 0.6) == pytest.approx(found, abs=0.012)


@pytest.mark.parametrize("points", [0.1, 0.2, 0.5, 1.0, 30.0])
@pytest.mark.parametrize("deviation", [0.0, 0.1, 0.9, 3.0])
@pytest.mark.parametrize("level", [0.95, 0.975])
def test_one_unit_fewer_is_too_few(points, deviation, level):
    n = units_needed(points, deviation, level=level)
    if n is None:
        assert smallest_difference(1000, deviation, level=level) > points
        return
    assert smallest_difference(n, deviation, level=level) <= points
    assert n == fewest(level) or smallest_difference(n - 1, deviation, level=level) > points


def test_the_words_take_as_many_units_as_an_exact_p_below_the_level():
    for level in (0.95, 0.975, 0.99):
        n = fewest(level)
        ps = [sign_flip_p(np.ones(count), tolerance=0) for count in (n - 1, n)]
        assert ps[1] < 1 - level <= ps[0]
    assert fewest() == 6


@pytest.mark.parametrize("n", [2, 3, 5, 10, 30, 1000])
def test_the_smallest_difference_is_found_with_80_percent(n):
    assert power(n, smallest_difference(n, 0.7), 0.7) == pytest.approx(0.8, abs=1e-6)


@pytest.mark.parametrize(("n", "level"), [(6, 0.95), (8, 0.95), (8, 0.975)])
def test_what_is_called_better_is_found_with_80_percent_by_both_tests(n, level):
    points = smallest_difference(n, 0.7, level=level)
    drawn = np.random.default_rng(9).normal(points, 0.7, (2000, n))
    by_t = stats.ttest_1samp(drawn, 0, axis=1).pvalue < 1 - level
    exact = np.array([sign_flip_p(row, tolerance=0) for row in drawn]) < 1 - level
    assert np.mean(by_t & exact) == pytest.approx(0.8, abs=0.03)
    # More than the t test alone needs; of 10 units and more, no longer.
    assert power(n, points, 0.7, level=level) > 0.82


def test_components_of_equal_numbers_solve_the_mean_squares():
    values = np.random.default_rng(0).normal(size=(5, 3)) + np.arange(5)[:, None]
    reference = stats.f_oneway(*values).statistic  # MSB / MSW
    within = values.var(axis=1, ddof=1).mean()
    found = components(values.tolist())
    assert found.within == pytest.approx(within)
    assert found.between == pytest.approx((reference - 1) * within / 3)
    # So the means' variance is that of so many finetunings of a pretraining.
    assert found.deviation(3) == pytest.approx(values.mean(axis=1).std(ddof=1))


@pytest.mark.parametrize("counts", [(2, 2, 2), (3, 2, 2), (5, 1, 1, 2)])
def test_components_are_right_on_average(counts):
    generator = np.random.default_rng(1)
    between, within = 4.0, 1.0  # so that hardly an estimate is cut off at 0
    found = [
        components(
            [
                (generator.normal(0, between**0.5) + generator.normal(0, within, count)).tolist()
                for count in counts
            ]
        )
        for _ in range(3000)
    ]
    assert np.mean([each.within for each in found]) == pytest.approx(within, rel=0.06)
    assert np.mean([each.between for each in found]) == pytest.approx(between, rel=0.1)


def test_components_of_single_finetunings_are_not_told_apart():
    found = components([[1.0], [2.0], [4.0]])
    assert found == Components(between=pytest.approx(np.var([1, 2, 4], ddof=1)), within=None)
    assert components([[1.0, 3.0], [1.0, 3.0]]).between == 0


def test_the_deviations_interval_covers():
    drawn = np.random.default_rng(0).normal(0, 2.0, (2000, 4)).std(axis=1, ddof=1)
    intervals = np.array([deviation_interval(float(sd), 3) for sd in drawn])
    assert np.mean((intervals[:, 0] <= 2) & (intervals[:, 1] >= 2)) == pytest.approx(
        0.95, abs=0.015
    )
