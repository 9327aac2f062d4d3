"""Differences over images: what another draw of the evaluated images would change.

Both functions take whether each image was right, by seed. One image is evaluated once for every
seed, and is easy or hard for all of them: those entries are not independent, so the image, with
all its seeds, is the unit that is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import signal, stats

from mfm.statistics.over_seeds import LEVEL, t_quantile

Right = npt.NDArray[np.bool_]  # [seeds, images]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ImageTest:
    """McNemar's test, pooled over seed pairs with the image as the unit."""

    pairs: int  # of seeds
    images: int
    gained: float  # images that only the arm gets right, mean over the seed pairs
    lost: float  # images that only the baseline gets right
    p: float  # exact, two-sided
    mid_p: float  # with half the probability of the observed value


@dataclass(frozen=True, kw_only=True)
class Bootstrap:
    """A mean difference in points, with an interval for other seeds and other images."""

    mean: float
    low: float
    high: float
    of_seeds: float  # standard error that the seeds show
    of_images: float  # and what other images would add to it


def image_test(arm: Right, baseline: Right) -> ImageTest:
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

    The trained models are given here: this says nothing of other seeds. The interval over seeds
    does, and `bootstrap` speaks of both.
    """
    assert arm.shape == baseline.shape, (arm.shape, baseline.shape)
    pairs, images = arm.shape
    values = arm.sum(axis=0, dtype=np.int64) - baseline.sum(axis=0, dtype=np.int64)
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
    )


def bootstrap(
    arm: Right,
    baseline: Right,
    *,
    paired: bool,
    samples: int = 2000,
    level: float = LEVEL,
    seed: int = 0,
) -> Bootstrap | None:
    """Interval of the mean difference, in points, for other seeds and images; None for one seed.

    Seeds and images are crossed (every seed is evaluated on the same images), so each sample draws
    seeds (pairs where `paired`, else each arm's own) and images independently, and takes the mean
    over both. Three things make that an interval that covers for the few seeds one has:

    - Of n seeds, n - 1 are drawn: the variance of means of n draws is too small by (n - 1) / n.
    - The part of an image's result that is of this seed and this image alone is counted three
      times by crossed samples (A. B. Owen, Ann. Appl. Stat. 1, 2007, 386-411); two are taken off.
    - Percentiles of samples from 3 values know nothing of the error of their own variance. So what
      the samples' variance has beyond that of the seeds is the images' part; its normal half width
      and the half width of the seeds' t interval add in squares. The interval is never narrower
      than the seeds' own. (One t quantile with Satterthwaite's degrees of freedom for the sum was
      tried: with 2 or 3 seed pairs it covered in 90 to 92% of simulated experiments.)
    """
    groups: list[npt.NDArray[np.int8]] = (
        [arm.astype(np.int8) - baseline.astype(np.int8)]
        if paired
        else [arm.astype(np.int8), -baseline.astype(np.int8)]
    )
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
    sampled = np.einsum("bs,bs->b", shares, draws @ kinds.T.astype(np.float64))
    of_seeds = [_variances(group) for group in groups]
    seeds = np.array([between for between, _ in of_seeds])
    # The drawn seeds on the images as they are: that variance is known, and not left to chance.
    beyond = sampled - shares @ stacked.mean(axis=1)
    of_images = max(float(beyond.var(ddof=1)) - 2 * sum(own for _, own in of_seeds), 0.0)
    if seeds.sum() + of_images == 0:
        return None
    half = float(stats.norm.ppf(0.5 + level / 2)) * np.sqrt(of_images)
    if seeds.sum() > 0:
        freedom = seeds.sum() ** 2 / (seeds**2 / (np.array(counts) - 1)).sum()
        half = np.hypot(half, t_quantile(freedom, level=level) * np.sqrt(seeds.sum()))
    mean = float(sum(group.mean() for group in groups))
    return Bootstrap(
        mean=100 * mean,
        low=100 * float(mean - half),
        high=100 * float(mean + half),
        of_seeds=100 * float(np.sqrt(seeds.sum())),
        of_images=100 * float(np.sqrt(of_images)),
    )


def _variances(group: npt.NDArray[np.int8]) -> tuple[float, float]:
    """Variances of the mean of [seeds, images]: by the seeds, and by single entries alone."""
    seeds, images = group.shape
    of_seeds, of_images = group.mean(axis=1), group.mean(axis=0)
    # Sum of squares of what neither the seed nor the image explains, without a float copy.
    total = float((group.astype(np.int64) ** 2).sum())
    mean = float(group.mean())
    rest = total - images * (of_seeds**2).sum() - seeds * (of_images**2).sum()
    rest = (rest + seeds * images * mean**2) / ((seeds - 1) * (images - 1))
    return float(of_seeds.var(ddof=1) / seeds), float(max(rest, 0.0) / (seeds * images))
