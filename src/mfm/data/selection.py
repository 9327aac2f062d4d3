"""Which labelled images a finetuning uses: by seed, balanced over classes."""

from __future__ import annotations

import numpy as np

from mfm.draws import Ints, Stream, hashes
from mfm.errors import UserError


def per_class_positions(labels: Ints, count: int, *, seed: int, stream: Stream) -> Ints:
    """Positions of `count` images of each class, by keyed draws, in ascending order."""
    words = hashes(seed=seed, epoch=0, stream=stream, indices=np.arange(len(labels)))[:, 0]
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        chosen.append(members[np.argsort(words[members], kind="stable")[:count]])
    return np.sort(np.concatenate(chosen))


def labelled_positions(
    labels: Ints, classes: tuple[str, ...], per_class: int | None, *, seed: int
) -> Ints:
    """Positions of `per_class` images of each class (all where it is None), by seed.

    They do not depend on the arm. Raises UserError when a class has fewer.
    """
    if per_class is None:
        return np.arange(len(labels))
    counts = np.bincount(labels, minlength=len(classes))
    if counts.min() < per_class:
        raise UserError(
            f"finetune.images_per_class is {per_class}, but class "
            f"{classes[int(counts.argmin())]} has {counts.min()} training images; lower it"
        )
    return per_class_positions(labels, per_class, seed=seed, stream=Stream.SUBSET)
