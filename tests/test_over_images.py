from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from mfm.statistics.over_images import bootstrap, by_group, by_unit, image_test


def right(*rows):
    return np.array(rows, bool)


def counts(both, gained, lost, neither):
    """One seed pair with these numbers of images."""
    arm = [True] * (both + gained) + [False] * (lost + neither)
    baseline = [True] * both + [False] * gained + [True] * lost + [False] * neither
    return right(arm), right(baseline)


@pytest.mark.parametrize("cells", [(30, 1, 6, 5), (5, 0, 4, 0), (50, 12, 12, 9), (9, 40, 21, 3)])
def test_one_seed_pair_is_mcnemars_exact_test(cells):
    both, gained, lost, neither = cells
    found = image_test(*counts(*cells))
    assert (found.gained, found.lost) == (gained, lost)
    assert found.images == sum(cells)
    theirs = mcnemar([[both, gained], [lost, neither]], exact=True)
    assert found.p == pytest.approx(theirs.pvalue, abs=1e-12)


def test_the_mid_p_of_a_published_example():
    # Fagerland et al. 2013, table 2 (Bentur et al.): 1 and 7 discordant of 21 children; exact p
    # 0.0703, mid-p 0.0391.
    found = image_test(*counts(1, 1, 7, 12))
    assert found.p == pytest.approx(0.0703, abs=5e-5)
    assert found.mid_p == pytest.approx(0.0391, abs=5e-5)


@given(
    values=st.lists(
        st.lists(st.tuples(st.booleans(), st.booleans()), min_size=3, max_size=3),
        min_size=1,
        max_size=8,
    )
)
@settings(deadline=None, max_examples=50)
def test_several_pairs_are_all_sign_changes_of_whole_images(values):
    arm, baseline = np.moveaxis(np.array(values), 2, 0).transpose(0, 2, 1)
    found = image_test(arm, baseline)
    d = arm.sum(0).astype(int) - baseline.sum(0)
    sums = [abs(np.dot(signs, d)) for signs in product((-1, 1), repeat=len(d))]
    at = np.mean([s == abs(d.sum()) for s in sums])
    beyond = np.mean([s > abs(d.sum()) for s in sums])
    assert found.p == pytest.approx(at + beyond, abs=1e-12)
    assert found.mid_p == pytest.approx(beyond + at / 2, abs=1e-12)


def test_many_images_give_durkalskis_statistic():
    generator = np.random.default_rng(3)
    ability = generator.normal(0, 1, 4000)
    noise = generator.normal(0, 1, (2, 5, 4000))
    arm, baseline = ability + noise[0] > -0.02, ability + noise[1] > 0
    d = arm.sum(0).astype(int) - baseline.sum(0)
    z = d.sum() / np.sqrt((d**2).sum())
    assert image_test(arm, baseline).mid_p == pytest.approx(2 * stats.norm.sf(abs(z)), rel=0.02)


def test_equal_models_are_no_evidence_and_certain_ones_are():
    same = right([True, False, True])
    assert image_test(same, same).p == 1
    found = image_test(*counts(0, 2000, 0, 0))
    assert found.p < 1e-12
    assert found.mid_p <= found.p
    assert image_test(*counts(0, 20, 0, 0)).p == pytest.approx(2 * 0.5**20)
    assert image_test(*counts(0, 3, 2, 0)).p == pytest.approx(
        min(1, 2 * sum(comb(5, k) for k in (3, 4, 5)) / 32)
    )


def models(generator, experiments, *, pairs, images):
    """Right or wrong of two like arms, given their models: [experiments, 2, pairs, images].

    Which images an arm gets right is the arm's own, and much the same for all its seeds.
    """
    size = (experiments, 2, 1, images)
    own, difficulty = generator.normal(0, 0.7, size), generator.normal(0, 1, (1, 1, 1, images))
    noise = generator.normal(0, 0.5, (experiments, 2, pairs, images))
    return difficulty + own + noise > -0.5


def test_the_pooled_test_holds_its_level_where_summed_counts_do_not():
    # Arms that differ from image to image, but not on average.
    drawn = models(np.random.default_rng(0), 2000, pairs=4, images=150)
    tests = [image_test(arm, baseline) for arm, baseline in drawn]
    assert np.mean([test.p < 0.05 for test in tests]) <= 0.05 + 0.015
    assert np.mean([test.mid_p < 0.05 for test in tests]) == pytest.approx(0.05, abs=0.015)
    # The sum of the discordant counts as if each were an image of its own.
    arm, baseline = drawn[:, 0], drawn[:, 1]
    gained, lost = (arm & ~baseline).sum((1, 2)), (baseline & ~arm).sum((1, 2))
    z = (gained - lost) / np.sqrt(gained + lost)
    assert np.mean(np.abs(z) > 1.96) > 0.15


def draw(generator, *, seeds, images, of_seed, own, pretrainings=None, between=0.0):
    """Two arms without a true difference, over seeds and images: [seeds, images] each.

    Seeds start from pretrainings in turn; what one does to an image, it does in all its runs.
    """
    difficulty = generator.normal(0, 1, images)
    arms = []
    for _ in range(2):
        seed = generator.normal(0, of_seed, (seeds, 1))
        image = generator.normal(0, own, images)
        right = difficulty + image + seed + generator.normal(0, 0.3, (seeds, images))
        if pretrainings:
            before = generator.normal(0, between, (pretrainings, 1))
            before = before + generator.normal(0, 0.3, (pretrainings, images))
            right += before[np.arange(seeds) % pretrainings]
        arms.append(right > -0.5)
    return arms


def coverage(*, experiments, paired, pretrainings=None, **shape):
    generator = np.random.default_rng(5)
    labels = np.arange(shape["seeds"]) % (pretrainings or shape["seeds"])
    hits = 0
    for _ in range(experiments):
        drawn = draw(generator, pretrainings=pretrainings, **shape)
        arm, baseline = (by_unit(right, labels) for right in drawn)
        found = bootstrap(arm, baseline, paired=paired, samples=100)
        hits += found is not None and found.low <= 0 <= found.high
    return hits / experiments


def test_the_bootstraps_interval_covers_95_percent():
    found = coverage(experiments=2000, paired=True, seeds=3, images=80, of_seed=0.3, own=0.2)
    assert found == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(("seeds", "of_seed", "own"), [(2, 0.3, 0.1), (5, 0.02, 0.5)])
def test_the_bootstraps_interval_does_not_cover_less(paired, seeds, of_seed, own):
    # Few seeds, and images that matter more than seeds. 400 experiments: standard error 0.011.
    shape = {"seeds": seeds, "images": 80, "of_seed": of_seed, "own": own}
    assert coverage(experiments=400, paired=paired, **shape) >= 0.92


@pytest.mark.parametrize("between", [0.0, 0.4])
@pytest.mark.parametrize(("seeds", "pretrainings"), [(6, 3), (7, 4), (6, 2)])
def test_the_bootstrap_over_pretrainings_does_not_cover_less(seeds, pretrainings, between):
    shape = {"seeds": seeds, "images": 80, "of_seed": 0.2, "own": 0.2}
    found = coverage(
        experiments=400, paired=True, pretrainings=pretrainings, between=between, **shape
    )
    assert found >= 0.93


def test_runs_of_few_pretrainings_as_units_would_cover_less():
    generator, hits = np.random.default_rng(5), 0
    for _ in range(200):
        arm, baseline = draw(
            generator, seeds=8, images=80, of_seed=0.2, own=0.2, pretrainings=2, between=0.4
        )
        found = bootstrap(1.0 * arm, 1.0 * baseline, paired=True, samples=100)
        hits += found.low <= 0 <= found.high
    assert hits / 200 < 0.85


def test_a_units_share_is_the_mean_of_its_runs():
    runs = right([1, 0, 1], [1, 1, 1], [0, 0, 1])
    assert by_unit(runs, ["a", "b", "a"]).tolist() == [[0.5, 0, 1], [1, 1, 1]]
    arm, baseline = by_unit(runs, ["a", "b", "a"]), np.zeros((2, 3))
    assert bootstrap(arm, baseline, paired=True).mean == pytest.approx(75)


def test_the_bootstrap_is_as_wide_as_seeds_and_images_ask_for():
    # The same hits for every image: nothing but seeds, and the t interval of the seeds.
    arm, baseline = np.zeros((2, 4, 1000))
    for seed, share in enumerate((500, 510, 530, 560)):
        arm[seed, :share] = 1
        baseline[seed, :500] = 1
    found = bootstrap(arm, baseline, paired=True, samples=4000)
    differences = 100 * (arm.mean(1) - baseline.mean(1))
    low, high = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    assert found.mean == pytest.approx(2.5)
    assert found.low <= low < high <= found.high
    # One model each, but for a copy: nothing but images, and the normal interval of McNemar.
    arm, baseline = (np.repeat(1.0 * part, 2, axis=0) for part in counts(400, 60, 40, 500))
    found = bootstrap(arm, baseline, paired=True, samples=4000)
    d = arm[0] - baseline[0]
    half = 1.96 * d.std() / np.sqrt(len(d))
    assert found.of_units == 0
    assert (found.high - found.low) / 2 == pytest.approx(100 * half, rel=0.05)


def test_one_seed_has_no_bootstrap():
    one, two = np.ones((1, 9)), np.ones((2, 9))
    assert bootstrap(one, one, paired=True) is None
    assert bootstrap(two, one, paired=False) is None
    assert bootstrap(two, two, paired=True) is None, "no spread at all"


def test_copies_of_an_image_in_one_group_are_one_image():
    draws = np.random.default_rng(5)
    arm, baseline = draws.random((2, 4, 60)) < 0.6
    groups = np.repeat(draws.permutation(60), 3)
    copied = [np.repeat(each, 3, axis=1) for each in (arm, baseline)]
    one, same = image_test(arm, baseline), image_test(*copied, groups)
    assert (same.p, same.mid_p) == pytest.approx((one.p, one.mid_p), abs=1e-12)
    assert (same.images, same.groups, one.groups) == (180, 60, None)
    assert image_test(*copied).p < one.p
    shares = [by_unit(each, range(4)) for each in (arm, baseline)]
    grouped = [by_group(np.repeat(each, 3, axis=1), groups) for each in shares]
    order = np.argsort(groups[::3])
    for each, theirs in zip(shares, grouped, strict=True):
        assert theirs == pytest.approx(each[:, order])


def test_groups_that_differ_in_size_and_in_result_widen_the_interval():
    draws = np.random.default_rng(6)
    groups = np.repeat(np.arange(40), draws.integers(1, 30, 40))
    gain = draws.normal(0, 0.3, 40)[groups]  # a group's own, of all its images
    arm, baseline = draws.random((2, 6, len(groups))) < 0.5 + np.stack([gain, -gain])[:, None]
    shares = [by_unit(each, range(6)) for each in (arm, baseline)]
    whole = [by_group(each, groups) for each in shares]
    alone, grouped = (bootstrap(*each, paired=True) for each in (shares, whole))
    assert grouped.mean == pytest.approx(alone.mean)
    assert grouped.of_units == pytest.approx(alone.of_units)
    # The ratio of sums over groups, drawn by numpy alone.
    d = np.bincount(groups, weights=(arm.mean(0) - baseline.mean(0)))
    drawn = draws.integers(0, 40, (4000, 40))
    ratios = d[drawn].sum(1) / np.bincount(groups)[drawn].sum(1)
    assert grouped.of_images == pytest.approx(100 * ratios.std(), rel=0.1)
    assert grouped.of_images > 2 * alone.of_images
