"""Choice of the loader by its name."""

from __future__ import annotations

import torch

from mfm.data.loading.batches import Batches
from mfm.data.loading.loader import Loader
from mfm.data.settings import LoaderName


def create_loader(
    kind: LoaderName,
    batches: Batches,
    *,
    workers: int,
    device: torch.device,
    timeout_minutes: float = 0.0,
) -> Loader:
    """The loader of that name: same order, crops and flips, pixels by its own decoder and resize.

    Raises UserError where DALI is asked for and is not installed.
    """
    if kind == "torchvision":
        return Loader(batches, workers=workers, device=device, timeout_minutes=timeout_minutes)
    from mfm.data.loading import dali

    return dali.create_loader(
        batches, workers=workers, device=device, timeout_minutes=timeout_minutes
    )
