"""Differences over images: what another draw of the evaluated images would change.

One image is evaluated once for every run, and is easy or hard for all of them: those entries are
not independent, so the image, with all its runs, is what is drawn. Where images belong together (a
patient's), the group with all its images is.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import signal, stats

from mfm.statistics.over_seeds import LEVEL, t_quantile

Right = npt.NDArray[np.bool_]  # [seeds, images]
Groups = npt.NDArray[np.int64]  # [images]: equal numbers belong together
Values = npt.NDArray[np.float64]
Shares = npt.NDArray[np.float64]  # [units, images]: share of a unit's runs that got it right


@dataclass(frozen=True, kw_only=True)
class ImageTest:
    """McNemar's test, pooled over seed pairs with the image as the unit."""

    pairs: int  # of seeds
    images: int
    gained: float  # images that only the arm gets right, mean over the seed pairs
    lost: float  # images that only the baseline gets right
    p: float  # exact, two-sided
    mid_p: float  # with half the probability of the observed value
    groups: int | None = None  # that the images are of, each of them drawn whole; None: none


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """A mean difference in points, with an interval for other units and other images."""

    mean: float
    low: float
    high: float
    of_units: float  # standard error that the units show
    of_images: float  # and what other images would add to it


def image_test(arm: Right, baseline: Right, groups: Groups | None = None) -> ImageTest:
    """Whether these trained models differ on images such as these: [pairs, images] each.

    McNemar's test compares two models on the images that one of them gets right and the other does
    not. With several seed pairs, summing those counts over the pairs would count an image that
    every seed finds hard once for each of them, as if it were new evidence: such a test finds
    differences where there are none, the more often the more seeds. Here an image's value is D, its
    gains less its losses over all seed pairs, and where the arms are alike, D and -D are equally
    likely for each image (a seed pair's exchange of arms is one exchange for the whole image). The
    test is the distribution of the sum of D under those 2^images sign changes, computed exactly by
    convolution, at any count. For one pair that is McNemar's exact (binomial) test. For many
    images it becomes Durkalski's clustered McNemar statistic, (sum D)^2 / sum D^2 (Statist. Med.
    22, 2003, 2417-2428). The mid-p counts half of the observed value's probability: McNemar's exact
    test is conservative for few discordant images, its mid-p is close to its level
    (Fagerland et al., BMC Med. Res. Methodol. 13, 2013, 91).

    With `groups`, D is a group's sum, and its images change sign together.

    The trained models are given here: this says nothing of other seeds. The interval over seeds
    does, and `bootstrap` speaks of both.
    """
    assert arm.shape == baseline.shape, (arm.shape, baseline.shape)
    pairs, images = arm.shape
    values = arm.sum(axis=0, dtype=np.int64) - baseline.sum(axis=0, dtype=np.int64)
    if groups is not None:
        values = np.bincount(groups, weights=values)[np.unique(groups)].astype(np.int64)
    total = int(abs(values.sum()))
    sizes = np.bincount(np.abs(values), minlength=1)
    # Distribution of w, the sum of |D| over the images whose sign is +: the sum of D is 2w - all.
    likely: Values = np.ones(1)
    for size in range(1, len(sizes)):
        spread = np.zeros(size * sizes[size] + 1)
        spread[::size] = stats.binom.pmf(np.arange(sizes[size] + 1), sizes[size], 0.5)
        likely = signal.convolve(likely, spread)
    likely = np.maximum(likely, 0)  # the convolution's rounding
    sums = np.abs(2 * np.arange(len(likely)) - (len(likely) - 1))
    at, beyond = float(likely[sums == total].sum()), float(likely[sums > total].sum())
    return ImageTest(
        pairs=pairs,
        images=images,
        gained=float((arm & ~baseline).sum() / pairs),
        lost=float((baseline & ~arm).sum() / pairs),
        p=min(1.0, beyond + at),
        mid_p=min(1.0, beyond + at / 2),
        groups=None if groups is None else len(values),
    )


def by_unit(right: Right, labels: Sequence[Hashable]) -> Shares:
    """Share of each unit's runs that got an image right, from [runs, images] and runs' units."""
    rows: dict[Hashable, list[int]] = {}
    for row, label in enumerate(labels):
        rows.setdefault(label, []).append(row)
    return np.stack([right[each].mean(axis=0) for each in rows.values()])


def by_group(shares: Shares, groups: Groups) -> Shares:
    """Each group as if it were one image, from each image: [units, groups] of the same means.

    A group's value is a unit's mean and what the group's images add to it, however many they are:
    the ratio of sums over groups, linearised (W. G. Cochran, Sampling Techniques, 1977, 6.3).
    """
    _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    sums = np.stack([np.bincount(numbers, weights=each) for each in shares])
    means = shares.mean(axis=1, keepdims=True)
    found: Shares = means + (sums - means * sizes) * len(sizes) / len(groups)
    return found


def bootstrap(
    arm: Shares, baseline: Shares, *, paired: bool, samples: int = 2000, seed: int = 0
) -> Bootstrap | None:
    """Interval of the mean difference, in points, for other units and images; None for one unit.

    Units (`units`: pretrainings, or runs where there are none or one) and images are crossed, since
    every unit is evaluated on the same images. So each sample draws units (pairs where `paired`,
    else each arm's own) and images independently, and takes the mean over both. Three things make
    that an interval that covers for the few units one has:

    - Of n units, n - 1 are drawn: the variance of means of n draws is too small by (n - 1) / n.
    - The part of an image's result that is of this unit and this image alone is counted three
      times by crossed samples (A. B. Owen, Ann. Appl. Stat. 1, 2007, 386-411); two are taken off.
    - Percentiles of samples from 3 values know nothing of the error of their own variance. So what
      the samples' variance has beyond that of the units is the images' part; its normal half width
      and the half width of the units' t interval add in squares. The interval is never narrower
      than the units' own. (One t quantile with Satterthwaite's degrees of freedom for the sum was
      tried: with 2 or 3 units it covered in 90 to 92% of simulated experiments.)
    """
    groups = [arm - baseline] if paired else [arm, -baseline]
    counts = [len(group) for group in groups]
    if min(counts) < 2:
        return None
    generator = np.random.default_rng(seed)
    images = arm.shape[1]
    stacked = np.concatenate(groups)
    # Images with the same results are alike, and far fewer kinds than images.
    kinds, number = np.unique(stacked, axis=1, return_counts=True)
    draws = generator.multinomial(images, number / images, size=samples) / images
    shares = np.concatenate(
        [generator.multinomial(n - 1, np.full(n, 1 / n), size=samples) / (n - 1) for n in counts],
        axis=1,
    )
    sampled = np.einsum("bs,bs->b", shares, draws @ kinds.T)
    parts = [_variances(group) for group in groups]
    units = np.array([between for between, _ in parts])
    # The drawn units on the images as they are: that variance is known, and not left to chance.
    beyond = sampled - shares @ stacked.mean(axis=1)
    of_images = max(float(beyond.var(ddof=1)) - 2 * sum(own for _, own in parts), 0.0)
    if units.sum() + of_images == 0:
        return None
    half = float(stats.norm.ppf(0.5 + LEVEL / 2)) * np.sqrt(of_images)
    if units.sum() > 0:
        freedom = units.sum() ** 2 / (units**2 / (np.array(counts) - 1)).sum()
        half = np.hypot(half, t_quantile(freedom) * np.sqrt(units.sum()))
    mean = float(sum(group.mean() for group in groups))
    return Bootstrap(
        mean=100 * mean,
        low=100 * float(mean - half),
        high=100 * float(mean + half),
        of_units=100 * float(np.sqrt(units.sum())),
        of_images=100 * float(np.sqrt(of_images)),
    )


def _variances(group: Values) -> tuple[float, float]:
    """Variances of the mean of [units, images]: by the units, and by single entries alone."""
    units, images = group.shape
    of_units, of_images = group.mean(axis=1, keepdims=True), group.mean(axis=0)
    rest = float(((group - of_units - of_images + group.mean()) ** 2).sum())
    rest /= (units - 1) * (images - 1)
    return float(of_units.var(ddof=1) / units), rest / (units * images)
