"""Random draws that depend on (seed, epoch, image) alone.

Every draw is a hash of its own coordinates, so no generator state exists: the number of workers,
of ranks, of restarts, and the order in which images are asked for, cannot change it. The hash is
the finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
OOPSLA 2014), vectorised over images.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import numpy.typing as npt

Uint64s = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Stream(IntEnum):
    """Independent uses of randomness."""

    ORDER = 1
    CROP = 2
    KEEP_LOW = 3
    AUGMENT = 4
    MIX = 5
    SUBSET = 6
    STEP = 7
    HOLDOUT = 8
    REPORT = 9
    ERASE = 10
    ERASE_NOISE = 11
    BLUR = 12
    NOISE = 13
    PATCHES = 14
    VIEW = 15
    VAL = 16
    EVALUATED = 17
    CORRUPTION = 18
    WAVE = 19


def hashes(*, seed: int, epoch: int, stream: Stream, indices: Ints, n: int = 1) -> Uint64s:
    """n independent 64-bit words for each index: uint64 [len(indices), n]."""
    with np.errstate(over="ignore"):
        key = np.zeros(1, np.uint64)
        for word in (seed, epoch, int(stream)):
            key = _mix(key + np.uint64(word) + _GOLDEN)
        per_image = _mix(key + (indices.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
        counters = np.arange(1, n + 1, dtype=np.uint64) * _GOLDEN
        return _mix(per_image[:, None] + counters[None, :])


def uniforms(*, seed: int, epoch: int, stream: Stream, indices: Ints, n: int = 1) -> Floats:
    """n independent uniform numbers in [0, 1) for each index: float64 [len(indices), n]."""
    words = hashes(seed=seed, epoch=epoch, stream=stream, indices=indices, n=n)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def of_views(rows: Ints, views: Ints) -> Ints:
    """Index of each image's view, by its number: view 0's is the image's own row."""
    return rows + (views << 40)


def permutation(n: int, *, seed: int, epoch: int, stream: Stream = Stream.ORDER) -> Ints:
    """A random order of range(n): int64 [n]."""
    words = hashes(seed=seed, epoch=epoch, stream=stream, indices=np.arange(n))[:, 0]
    return np.argsort(words, kind="stable")


def _mix(words: Uint64s) -> Uint64s:
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return words ^ (words >> np.uint64(31))
