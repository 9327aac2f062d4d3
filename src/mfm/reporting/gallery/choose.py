"""Choice of a gallery's images: the same rule for both arms, and nobody's eye.

By the number of seeds first, then by how far probabilities are apart, then by path, so that the
same predictions give the same images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mfm.reporting.gallery.predictions import ArmPredictions, Floats, Ints

ONLY, ERRORS, CLASSES, OF_A_CLASS = 24, 12, 3, 4  # how many are shown, at most
Bools = npt.NDArray[np.bool_]
RULE = (
    "Chosen by the number of seeds, then by the mean difference of the probabilities, then by path."
)


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Images in their order, and of how many they are the first."""

    images: Ints
    total: int
    always: int  # of those, in every seed


@dataclass(frozen=True, kw_only=True)
class ChosenClass:
    """A class, how well it is known, and images of it."""

    number: int
    recall: float  # percent of its images that are right, mean over seeds
    total: int
    images: Ints


def only_one(arm: ArmPredictions, other: ArmPredictions, count: int = ONLY) -> Chosen:
    """Images that more seeds of an arm get right than of the other.

    A share of the seeds is compared, where the arms have different numbers of them.
    """
    # Whole numbers, so that equal shares are equal.
    more = arm.right * other.seeds - other.right * arm.seeds
    gap = arm.of_label.mean(axis=0) - other.of_label.mean(axis=0)
    which = more > 0
    return Chosen(
        images=_first(count, arm, which, -more, -gap),
        total=int(which.sum()),
        always=int(((arm.right == arm.seeds) & (other.right == 0)).sum()),
    )


def confident_errors(arm: ArmPredictions, count: int = ERRORS) -> Chosen:
    """Images that an arm gets wrong: in most seeds, and surest of what they are not."""
    which = arm.right < arm.seeds
    return Chosen(
        images=_first(count, arm, which, arm.right, -_mistaken(arm)),
        total=int(which.sum()),
        always=int((arm.right == 0).sum()),
    )


def classes(arm: ArmPredictions, *, best: bool, count: int = CLASSES) -> list[ChosenClass]:
    """The classes that an arm knows best, or worst, with those of their images that say so most.

    Of few classes, each is among the best or the worst, not both.
    """
    totals = np.bincount(arm.labels, minlength=len(arm.classes))
    right = np.bincount(arm.labels, weights=arm.right, minlength=len(arm.classes))
    there = np.flatnonzero(totals)
    recalls = 100 * right[there] / (arm.seeds * totals[there])
    order = np.argsort(-recalls if best else recalls, kind="stable")
    found = []
    for place in order[: min(count, len(there) // 2)]:
        which = (arm.labels == there[place]) & (arm.right > 0 if best else arm.right < arm.seeds)
        keys = (-arm.right, -arm.of_label.mean(axis=0)) if best else (arm.right, -_mistaken(arm))
        found.append(
            ChosenClass(
                number=int(there[place]),
                recall=float(recalls[place]),
                total=int(totals[there[place]]),
                images=_first(OF_A_CLASS, arm, which, *keys),
            )
        )
    return found


def _mistaken(arm: ArmPredictions) -> Floats:
    """[images] by how much wrong predictions are more probable than the label, mean over seeds."""
    wrong = arm.predicted != arm.labels
    found: Floats = (wrong * (arm.of_predicted - arm.of_label)).mean(axis=0)
    return found


def _first(count: int, arm: ArmPredictions, which: Bools, *keys: Floats | Ints) -> Ints:
    """The first of some images by rising keys, then by path."""
    found = np.flatnonzero(which)
    if len(found) > count:
        # Only those that may be among the first are sorted by path: that takes time for texts.
        highest = np.sort(keys[0][found], kind="stable")[count - 1]
        found = found[keys[0][found] <= highest]
    paths = np.argsort(
        np.array([arm.paths[int(image)] for image in found], dtype=object), kind="stable"
    )
    found = found[paths]
    order = np.lexsort([key[found] for key in reversed(keys)])
    return found[order[:count]]
