"""Drift between the loaders: how far their pixels of the same images differ."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from mfm.data.linking.manifest import Images
from mfm.data.loading.batches import Batches
from mfm.data.loading.choice import create_loader
from mfm.data.settings import LoaderName
from mfm.numerics.draws import Ints, Stream, hashes

_BATCH = 64
LOADERS: tuple[LoaderName, ...] = get_args(LoaderName)


@dataclass(frozen=True, kw_only=True)
class Drift:
    """Differences of two loaders' pixels, in levels of 0 to 255."""

    mean: float
    largest: int
    share: float  # of values that differ at all
    worst: int  # position of the image with the largest mean difference


def drift(batches: Batches, positions: Ints, *, workers: int, device: torch.device) -> Drift:
    """Compare both loaders' pixels of the images at `positions`.

    Raises UserError for an unreadable image.
    """
    chunks = [positions[start : start + _BATCH] for start in range(0, len(positions), _BATCH)]

    def read(kind: LoaderName) -> Iterator[Tensor]:
        loader = create_loader(kind, batches, workers=workers, device=device)
        for batch in loader.read(lambda: ((0, chunk) for chunk in chunks)):
            yield batch.images.cpu().int()

    means, largest, share = [], 0, 0.0
    for one, other in zip(*(read(kind) for kind in LOADERS), strict=True):
        differences = (one - other).abs()
        means.append(differences.double().mean(dim=(1, 2, 3)))
        largest = max(largest, int(differences.max()))
        share += float((differences > 0).double().mean()) * len(one) / len(positions)
    by_image = torch.cat(means)
    return Drift(
        mean=float(by_image.mean()),
        largest=largest,
        share=share,
        worst=int(positions[int(by_image.argmax())]),
    )


def sample(images: Images, count: int, *, seed: int) -> Ints:
    """Positions of `count` images (all where there are fewer or count is 0), by seed, in order."""
    if count == 0 or count >= len(images):
        return np.arange(len(images))
    words = hashes(seed=seed, epoch=0, stream=Stream.SUBSET, indices=np.arange(len(images)))[:, 0]
    return np.sort(np.argsort(words, kind="stable")[:count])
