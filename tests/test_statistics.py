import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from mfm.statistics.over_seeds import Difference, compare, corrected, difference, estimate, holm

accuracies = st.floats(0, 100).map(lambda value: round(value, 3))


def by_seed(values, first=0):
    return dict(enumerate(values, first))


def close(found, interval):
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=1e-9)


@given(values=st.lists(accuracies, min_size=2, max_size=8), level=st.sampled_from([0.5, 0.9, 0.95]))
@settings(deadline=None)
def test_the_interval_is_scipys(values, level):
    found = estimate(values, level=level)
    assert found.n == len(values)
    assert found.mean == pytest.approx(math.fsum(values) / len(values))
    assert found.deviation == pytest.approx(np.std(values, ddof=1))
    if len(set(values)) > 1:
        close(found, stats.ttest_1samp(values, 0).confidence_interval(level))
    else:
        assert (found.low, found.high) == pytest.approx((found.mean, found.mean))


def test_an_interval_by_hand():
    # t of 95% with 2 degrees of freedom is 4.3027
    found = estimate([80.0, 81.0, 82.0])
    assert (found.mean, found.deviation) == (81, 1)
    assert found.high - found.mean == pytest.approx(4.3027 / 3**0.5, abs=1e-4)
    assert found.mean - found.low == pytest.approx(4.3027 / 3**0.5, abs=1e-4)


def test_one_value_has_no_interval():
    found = estimate([81.5])
    assert (found.n, found.mean) == (1, 81.5)
    assert found.deviation is found.low is found.high is None


@given(
    pairs=st.lists(st.tuples(accuracies, accuracies), min_size=2, max_size=8, unique=True),
    level=st.sampled_from([0.9, 0.95]),
)
@settings(deadline=None)
def test_the_same_seeds_are_paired(pairs, level):
    arm, baseline = zip(*pairs, strict=True)
    found = difference(by_seed(arm), by_seed(baseline), level=level)
    assert found.method == "paired"
    assert found.n == len(pairs)
    assert found.mean == pytest.approx(np.mean(arm) - np.mean(baseline), abs=1e-9)
    differences = np.subtract(arm, baseline)
    if differences.std() > 1e-9:
        theirs = stats.ttest_rel(arm, baseline)
        close(found, theirs.confidence_interval(level))
        assert found.p == pytest.approx(theirs.pvalue, abs=1e-9)
    else:
        assert found.high - found.low == pytest.approx(0, abs=1e-9)


def test_pairs_are_of_one_seed_whatever_the_order():
    arm = {2: 83.0, 0: 81.5, 1: 80.0}
    baseline = {0: 81.0, 1: 79.0, 2: 82.0}
    found = difference(arm, baseline)
    close(found, stats.ttest_1samp([0.5, 1.0, 1.0], 0).confidence_interval(0.95))


@pytest.mark.filterwarnings("ignore:Precision loss")
@given(
    arm=st.lists(accuracies, min_size=2, max_size=8),
    baseline=st.lists(accuracies, min_size=2, max_size=8),
    level=st.sampled_from([0.9, 0.95]),
)
@settings(deadline=None)
def test_other_seeds_give_welchs_interval(arm, baseline, level):
    found = difference(by_seed(arm), by_seed(baseline, 100), level=level)
    assert found.method == "welch"
    assert found.n == min(len(arm), len(baseline))
    assert found.mean == pytest.approx(np.mean(arm) - np.mean(baseline), abs=1e-9)
    if max(np.std(arm), np.std(baseline)) > 1e-6:
        theirs = stats.ttest_ind(arm, baseline, equal_var=False)
        close(found, theirs.confidence_interval(level))
        assert (found.p, found.freedom) == pytest.approx((theirs.pvalue, theirs.df), abs=1e-9)
    else:
        assert found.high - found.low == pytest.approx(0, abs=1e-5)


def test_seeds_that_one_arm_lacks_are_left_out_of_the_pairs():
    arm, baseline = [81.0, 82.0, 83.5], [80.0, 80.5]
    found = difference(by_seed(arm), by_seed(baseline))
    assert found.method == "paired"
    assert found.n == 2
    close(found, stats.ttest_rel(arm[:2], baseline).confidence_interval(0.95))


def test_seeds_that_each_arm_lacks_are_welchs():
    arm, baseline = [81.0, 82.0, 83.5], [80.0, 80.5]
    found = difference(by_seed(arm), by_seed(baseline, 2))
    assert found.method == "welch"
    assert found.n == 2
    close(found, stats.ttest_ind(arm, baseline, equal_var=False).confidence_interval(0.95))


@pytest.mark.parametrize(
    ("arm", "baseline", "method"),
    [
        ({0: 82.0}, {0: 80.0}, "paired"),
        ({0: 82.0}, {1: 80.0}, "welch"),
        ({0: 82.0, 1: 82.0}, {1: 80.0}, "welch"),
        ({0: 82.0}, {0: 79.0, 1: 81.0}, "welch"),
    ],
)
def test_a_single_seed_has_a_difference_and_no_interval(arm, baseline, method):
    found = difference(arm, baseline)
    assert found.mean == 2
    assert found.method == method
    assert found.low is found.high is None
    assert found.verdict == "no interval: needs at least 2 seeds"


@given(
    arm=st.lists(accuracies, min_size=2, max_size=5),
    baseline=st.lists(accuracies, min_size=2, max_size=5),
    apart=st.booleans(),
)
@settings(deadline=None)
def test_turning_the_comparison_around_turns_its_signs(arm, baseline, apart):
    first = 100 * apart
    forth = difference(by_seed(arm), by_seed(baseline, first))
    back = difference(by_seed(baseline, first), by_seed(arm))
    expected = (-forth.mean, -forth.high, -forth.low)
    assert (back.mean, back.low, back.high) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.1, 2.0, "better"),
        (-2.0, -0.1, "worse"),
        (-0.1, 2.0, "not distinguishable with 3 seeds"),
        (-2.0, 0.1, "not distinguishable with 3 seeds"),
        (0.0, 2.0, "not distinguishable with 3 seeds"),
        (-2.0, 0.0, "not distinguishable with 3 seeds"),
        (0.5, 0.5, "no verdict: the seeds' differences are all equal"),
        (None, None, "no interval: needs at least 2 seeds"),
    ],
)
def test_verdicts(low, high, verdict):
    assert Difference(method="paired", n=3, mean=0.5, low=low, high=high).verdict == verdict


def test_seeds_that_all_gain_the_same_get_no_verdict():
    # On a few validation images accuracies repeat by chance; that is no certainty.
    found = difference({0: 62.5, 1: 62.5}, {0: 50.0, 1: 50.0})
    assert found.verdict.startswith("no verdict")


def test_upstreams_published_gain_is_within_its_own_spread():
    # 12 runs of mean 78.621 and deviation 0.08, and scratch measured once
    mfm = 78.621 + 0.08 * stats.zscore(np.arange(12), ddof=1)
    found = difference(by_seed(mfm), {0: 78.542})
    assert found.low is None
    assert estimate(list(mfm)).deviation == pytest.approx(0.08)


def coverage(draw, method):
    generator = np.random.default_rng(0)
    runs = 2000
    hits = 0
    for _ in range(runs):
        arm, baseline, truth = draw(generator)
        found = difference(arm, baseline)
        assert found.method == method
        hits += found.low <= truth <= found.high
    return hits / runs


def test_the_paired_interval_covers_95_percent():
    # A seed does the same to both arms (deviation 1), and 0.3 to each alone.
    def draw(generator):
        shared = generator.normal(80, 1, 3)
        arm, baseline = shared + generator.normal(0, 0.3, (2, 3))
        return by_seed(arm + 0.7), by_seed(baseline), 0.7

    assert coverage(draw, "paired") == pytest.approx(0.95, abs=0.015)


def test_welchs_interval_covers_95_percent_of_unequal_arms():
    def draw(generator):
        arm, baseline = generator.normal(81, 0.3, 5), generator.normal(80, 1, 4)
        return by_seed(arm), by_seed(baseline, 10), 1.0

    assert coverage(draw, "welch") == pytest.approx(0.95, abs=0.015)


def test_pairing_is_what_makes_a_small_gain_visible():
    shared = np.array([78.0, 80.0, 82.0, 84.0])
    arm, baseline = shared + np.array([0.5, 0.6, 0.4, 0.5]), shared
    paired = difference(by_seed(arm), by_seed(baseline))
    apart = difference(by_seed(arm), by_seed(baseline, 10))
    assert paired.verdict == "better"
    assert apart.verdict == "not distinguishable with 4 seeds"
    assert paired.mean == pytest.approx(apart.mean)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_holms_correction_is_that_of_statsmodels(count):
    for p in np.random.default_rng(count).uniform(0, 0.2, (2, count)):
        assert holm(p) == pytest.approx(list(multipletests(p, method="holm")[1]))


def test_holms_correction_of_a_published_example():
    # p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm") in R
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([]) == []


def test_several_arms_are_corrected_and_one_is_not():
    arms = {
        "scratch": {0: 80.0, 1: 81.0, 2: 82.0},
        "b": {0: 80.5, 1: 81.7, 2: 82.6},
        "a": {0: 80.1, 1: 81.9, 2: 82.2},
        "one": {0: 83.0},
    }
    found = compare(arms, "scratch")
    assert list(found) == ["b", "a", "one"]
    p = [found[name].p for name in ("b", "a")]
    assert [found[name].adjusted for name in ("b", "a")] == pytest.approx(holm(p))
    assert {found[name].comparisons for name in ("b", "a")} == {2}
    assert found["one"].p is found["one"].adjusted is None
    alone = compare({name: arms[name] for name in ("scratch", "b", "one")}, "scratch")["b"]
    assert (alone.adjusted, alone.comparisons) == (None, 1)
    assert alone.verdict == "better"


def test_an_interval_without_zero_is_no_verdict_where_it_is_one_of_several():
    clear = Difference(method="paired", n=4, mean=1.0, low=0.1, high=1.9, p=0.04)
    other = Difference(method="paired", n=4, mean=0.1, low=-1.0, high=1.2, p=0.8)
    found = corrected({"a": clear, "b": other})
    assert clear.verdict == "better"
    assert found["a"].adjusted == pytest.approx(0.08)
    assert found["a"].verdict == "not distinguishable with 4 seeds"
    assert corrected({"a": clear})["a"].verdict == "better"


@pytest.mark.parametrize("shared", [True, False])
def test_at_most_5_percent_of_experiments_give_any_wrong_verdict(shared):
    # Three arms like the baseline; pairs of seeds, or seeds of their own.
    generator = np.random.default_rng(0)
    wrong = 0
    for _ in range(1000):
        seeds = generator.normal(80, 1, 4) if shared else np.full(4, 80)
        arms = {
            str(arm): by_seed(seeds + generator.normal(0, 0.4, 4), 0 if shared else 10 * arm)
            for arm in range(4)
        }
        verdicts = {found.verdict for found in compare(arms, "0").values()}
        wrong += bool(verdicts & {"better", "worse"})
    assert wrong / 1000 <= 0.05 + 2 * (0.05 * 0.95 / 1000) ** 0.5  # two standard errors


def test_rounding_is_no_spread():
    # 81.3 - 80.1 and 61.3 - 60.1 differ in their last bits
    found = difference({0: 81.3, 1: 61.3}, {0: 80.1, 1: 60.1})
    assert found.verdict.startswith("no verdict")
    assert found.p is None


def test_equal_differences_of_rounded_accuracies_are_no_verdict():
    # One image of 48 in both seeds: 2.0834 and 2.0833 after rounding.
    def top1(*hits):
        return {seed: round(100 * count / 48, 4) for seed, count in enumerate(hits)}

    ours, theirs = top1(14, 10), top1(13, 9)
    found = difference(ours, theirs)
    assert (found.deviation, found.p) == (0, None)
    assert found.low == found.high == found.mean
    # Two images in one of them is a difference of the seeds.
    assert difference(top1(14, 11), theirs).p is not None
