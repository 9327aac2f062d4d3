"""Groups of images that belong together (a patient, a plant, a film): drawn whole, or not at all.

Like scikit-learn's StratifiedGroupKFold, with two things that it doesn't do: any share instead of
one of k folds, and a draw that is keyed by each group's own name, so that groups that are added
leave most others on their side.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mfm.numerics.draws import Ints, Stream, Uint64s, hashes

_PASSES = 20
_ONE_SIDED = 1e6  # what a class costs that is all on one side: more than any number of images
Counts = list[tuple[int, int]]  # each label of a unit, and how many images it has


def drawn(table: pa.Table, wanted: Ints, *, seed: int, stream: Stream) -> npt.NDArray[np.bool_]:
    """Which rows are taken, so that of each label as nearly `wanted` are as whole groups allow.

    Columns label, content and group ('': the image is its own). Files with the same content, and
    the groups that have them, stay together. In an order by keyed hashes, groups are taken, and
    put back, as long as that brings the numbers nearer to those wanted: the sum over labels of
    (taken - wanted)^2 / wanted, with some images of each label on both sides.
    """
    units, keys = _units(table["group"].to_pylist(), table["content"].to_numpy())
    labels = table["label"].to_numpy().astype(np.int64)
    words = hashes(seed=seed, epoch=0, stream=stream, indices=keys.view(np.int64))[:, 0]
    order = np.argsort(words, kind="stable")
    chosen = _chosen(_counts(units, labels, len(keys)), order, wanted.tolist())
    taken: npt.NDArray[np.bool_] = chosen[units]
    return taken


def number_of_groups(column: pa.ChunkedArray) -> int:
    """How many there are, with each image that is its own."""
    groups: list[str] = column.to_pylist()
    return len(set(groups) - {""}) + groups.count("")


def _units(groups: list[str], contents: Uint64s) -> tuple[Ints, Uint64s]:
    """The number of each row's unit, and each unit's key: of its first group, or its content."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    found, content = np.unique(contents, return_inverse=True)
    names = sorted(set(groups) - {""})
    number = {name: len(found) + place for place, name in enumerate(names)}
    edges = [(row, number[group]) for row, group in enumerate(groups) if group]
    rows, ends = np.array(edges, np.int64).reshape(-1, 2).T
    size = len(found) + len(names)
    joined = coo_array((np.ones(len(rows), np.int8), (content[rows], ends)), shape=(size, size))
    count, unit = connected_components(joined, directed=False)
    of_names = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names]
    keys = np.full(count, np.iinfo(np.uint64).max, np.uint64)
    own = np.ones(count, bool)
    own[unit[len(found) :]] = False
    np.minimum.at(keys, unit[len(found) :], np.frombuffer(b"".join(of_names), np.uint64))
    alone = own[unit[: len(found)]]
    keys[unit[: len(found)][alone]] = found[alone]
    return unit[content].astype(np.int64), keys


def _counts(units: Ints, labels: Ints, number: int) -> list[Counts]:
    pairs, count = np.unique(np.stack([units, labels]), axis=1, return_counts=True)
    ends = np.searchsorted(pairs[0], np.arange(number + 1)).tolist()
    each = list(zip(pairs[1].tolist(), count.tolist(), strict=True))
    return [each[start:end] for start, end in pairwise(ends)]


def _chosen(counts: list[Counts], order: Ints, wanted: list[int]) -> npt.NDArray[np.bool_]:
    total = [0] * len(wanted)
    for each in counts:
        for label, number in each:
            total[label] += number
    taken, chosen = [0] * len(wanted), np.zeros(len(counts), bool)
    for one_sided in (0.0, *[_ONE_SIDED] * _PASSES):
        changed = False
        for unit in order.tolist():
            sign = -1 if chosen[unit] else 1
            gain = 0.0
            for label, number in counts[unit]:
                now, then = taken[label], taken[label] + sign * number
                goal, most = wanted[label], total[label]
                gain += ((now - goal) ** 2 - (then - goal) ** 2) / goal
                gain += one_sided * ((now in (0, most)) - (then in (0, most)))
            if gain > 0:
                chosen[unit] = not chosen[unit]
                changed = True
                for label, number in counts[unit]:
                    taken[label] += sign * number
        if one_sided and not changed:
            break
    return chosen
