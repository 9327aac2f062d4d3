"""Selection of labelled images: by seed, balanced over classes."""

from __future__ import annotations

import numpy as np

from mfm.errors import UserError
from mfm.numerics.draws import Ints, Stream, hashes


def share(counts: Ints, fraction: float) -> Ints:
    """`fraction` of each class's number of images, rounded half up, at least one."""
    shares: Ints = np.maximum(1, np.floor(counts * fraction + 0.5)).astype(np.int64)
    return shares


def per_class_positions(labels: Ints, count: int | Ints, *, seed: int, stream: Stream) -> Ints:
    """Positions of `count` images of each class, by keyed draws, in ascending order.

    `count` is one number, or one by label. More images of a seed include those of fewer.
    """
    words = hashes(seed=seed, epoch=0, stream=stream, indices=np.arange(len(labels)))[:, 0]
    # By class, and within it by draw: the first of each class are chosen.
    order = np.lexsort((words, labels))
    present, starts, sizes = np.unique(labels[order], return_index=True, return_counts=True)
    number_in_class = np.arange(len(labels)) - np.repeat(starts, sizes)
    wanted = count if isinstance(count, int) else np.repeat(count[present], sizes)
    return np.sort(order[number_in_class < wanted])


def labelled_positions(
    labels: Ints,
    classes: tuple[str, ...],
    per_class: int | None,
    *,
    seed: int,
    fraction: float | None = None,
) -> Ints:
    """Positions of `per_class` images, or a fraction, of each class (all by default), by seed.

    They do not depend on the arm. Raises UserError when a class has fewer.
    """
    counts = np.bincount(labels, minlength=len(classes))
    if fraction is not None:
        return per_class_positions(labels, share(counts, fraction), seed=seed, stream=Stream.SUBSET)
    if per_class is None:
        return np.arange(len(labels))
    if counts.min() < per_class:
        raise UserError(
            f"finetune.images_per_class is {per_class}, but class "
            f"{classes[int(counts.argmin())]} has {counts.min()} training images; lower it"
        )
    return per_class_positions(labels, per_class, seed=seed, stream=Stream.SUBSET)
