"""Probes: simple classifiers that read features as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from mfm.evaluation.frozen.features_file import Block, Matrix
from mfm.numerics.draws import Floats, Ints

# Inverse strengths of the penalty that are tried, as scikit-learn's C: the smaller, the stronger.
GRID = tuple(10.0**power for power in range(-4, 3))
FOLDS = 5
ITERATIONS = 1000
# Of a neighbour's vote, exp(cosine / temperature), as in Wu et al. 2018 (arXiv 1805.01978).
TEMPERATURE = 0.07
# Evaluated images at once: with a row group of a features file, 270 MB of cosines.
AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class Read:
    """What logistic regression read, and how it was chosen."""

    predictions: Ints
    inverse_penalty: float  # scikit-learn's C
    folds: int  # 1: nothing could be held out


def logistic(
    features: Matrix,
    labels: Ints,
    evaluated: Matrix,
    *,
    seed: int,
    groups: Ints | None = None,
) -> Read:
    """Labels of `evaluated` by logistic regression, L2, its C chosen by cross-validation.

    Folds are stratified, and drawn by the seed from the labels alone: the same for every kind of
    features. There are five of them, or as many as the smallest class has labelled images; with
    one, none can be held out, and C is 1. Where images have groups, folds are of whole ones, and
    one that lacks a class on a side is left out. The C of the smallest mean log loss is taken: of
    so few images accuracy hardly tells one C from another. (Features of a pretraining, 10 and 25
    labels a class, four draws, read on other training images of Fashion-MNIST: log loss took 1
    eight times of eight; accuracy took 0.1, 10 and 100 in three of them, 0.3 to 2 points worse.)

    Features are centred, and divided by one deviation of all: what a network's scale would do to
    the penalty is taken out, and what its features' relative sizes do is not. On held-out images of
    Fashion-MNIST, with 10 and 25 labels a class, no other scaling gave pixels, random weights or a
    pretraining a point more; with a deviation of its own for each feature pixels lose 1 to 2
    points, and without any scaling random weights lose 6.

    Where there are more features than images, they are rotated into the images' own dimensions: no
    product of two images changes, so neither does what is fitted, and it takes a tenth of the time.
    """
    mine = features.astype(np.float64)
    mean = mine.mean(axis=0)
    mine -= mean
    scale = float(mine.std()) or 1.0
    mine /= scale
    basis: Floats | None = None
    if mine.shape[1] > mine.shape[0]:
        basis = np.linalg.qr(mine.T)[0]
        mine = mine @ basis
    folds = _folds(labels, groups, seed=seed)
    model = _fitted(mine, labels, folds)
    found = []
    for part in _parts(evaluated):
        other = (part - mean) / scale
        found.append(model.predict(other if basis is None else other @ basis))
    return Read(
        predictions=np.concatenate(found),
        inverse_penalty=float(model.C_ if folds else model.C),
        folds=len(folds) or 1,
    )


def _folds(labels: Ints, groups: Ints | None, *, seed: int) -> list[tuple[Ints, Ints]]:
    """What is fitted, and what is held out, a pair a fold; none where that can't be."""
    own = np.arange(len(labels)) if groups is None else groups
    classes, number = np.unique(labels), FOLDS
    for label in classes:  # of one, nothing can be held out
        number = min(number, len(np.unique(own[labels == label])))
    if number < 2:
        return []
    if groups is None:
        folds = StratifiedKFold(number, shuffle=True, random_state=seed)
        return list(folds.split(labels, labels))
    whole = StratifiedGroupKFold(number, shuffle=True, random_state=seed)
    found = [
        pair
        for pair in whole.split(labels, labels, groups)
        if all(len(np.unique(labels[side])) == len(classes) for side in pair)
    ]
    return found if len(found) > 1 else []


def _fitted(
    features: Floats, labels: Ints, folds: list[tuple[Ints, Ints]]
) -> LogisticRegression | LogisticRegressionCV:
    if not folds:
        return LogisticRegression(max_iter=ITERATIONS).fit(features, labels)
    model = LogisticRegressionCV(
        Cs=GRID,
        cv=folds,
        scoring="neg_log_loss",
        max_iter=ITERATIONS,
        l1_ratios=(0,),
        use_legacy_attributes=False,
    )
    return model.fit(features, labels)


def nearest(
    blocks: Iterable[Block], evaluated: Matrix, *, neighbours: Sequence[int]
) -> dict[int, Ints]:
    """Labels of `evaluated` by the nearest features, by cosine, for each number of neighbours.

    A neighbour's vote is exp(cosine / temperature). Exact: every image is compared with every
    other, a block after the other, and of each only the nearest are kept. Where there are fewer
    labelled images than neighbours, all vote.
    """
    most = max(neighbours)
    near = [np.empty((len(part), 0)) for part in _parts(evaluated)]
    theirs = [np.empty((len(part), 0), np.int64) for part in near]
    for block in blocks:
        mine = _directions(block.features.astype(np.float64))
        for number, part in enumerate(_parts(evaluated)):
            cosines = _directions(part) @ mine.T
            best = _largest(cosines, most)
            cosines = np.hstack([near[number], np.take_along_axis(cosines, best, axis=1)])
            labels = np.hstack([theirs[number], block.labels[best]])
            best = _largest(cosines, most)
            near[number] = np.take_along_axis(cosines, best, axis=1)
            theirs[number] = np.take_along_axis(labels, best, axis=1)
    cosines, labels = np.concatenate(near), np.concatenate(theirs)
    votes = np.exp((cosines - 1) / TEMPERATURE)
    return {count: _elected(votes[:, :count], labels[:, :count]) for count in neighbours}


def _parts(features: Matrix) -> Iterator[Floats]:
    for start in range(0, len(features), AT_ONCE):
        yield features[start : start + AT_ONCE].astype(np.float64)


def _directions(features: Floats) -> Floats:
    """Of length 1, but for those that have none."""
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    found: Floats = features / np.where(lengths == 0, 1, lengths)
    return found


def _largest(values: Floats, count: int) -> npt.NDArray[np.int64]:
    """Places of each row's largest values, from the largest on."""
    width = values.shape[1]
    if width > count:
        places = np.argpartition(values, width - count, axis=1)[:, width - count :]
    else:
        places = np.broadcast_to(np.arange(width), values.shape)
    order = np.argsort(-np.take_along_axis(values, places, axis=1), axis=1, kind="stable")
    return np.take_along_axis(places, order, axis=1)


def _elected(votes: Floats, labels: Ints) -> Ints:
    """The label with the most votes, of each row."""
    total = np.zeros((len(votes), int(labels.max()) + 1))
    rows = np.arange(len(votes))
    for votes_of_one, label in zip(votes.T, labels.T, strict=True):
        total[rows, label] += votes_of_one
    found: Ints = total.argmax(axis=1)
    return found
