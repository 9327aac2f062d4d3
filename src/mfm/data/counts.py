"""Counts of a dataset's images by the names of its files, before any is read.

At most as many are images: what these counts refuse, the job that links the dataset would refuse
when it has read them all.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mfm.data.settings import Dataset

_SECONDS = 2.0


@dataclass(frozen=True, kw_only=True)
class Enough:
    """Numbers of images beyond which none needs to be counted, besides those held out."""

    together: int
    in_a_class: int


def count(dataset: Dataset, enough: Enough) -> dict[str, Any] | None:
    """The splits of a dataset as its summary has them, with 'images' and 'per_class'.

    None where no names tell, or not within two seconds. The holdout is still among the training
    images.
    """
    until = time.monotonic() + _SECONDS
    try:
        train = _training(dataset, enough, until)
        if train is None:
            return None
        splits: dict[str, Any] = {"train": {"images": sum(train.values()), "per_class": train}}
        if dataset.unlabelled is not None:
            folder = Path(dataset.unlabelled).expanduser()
            splits["pretrain"] = {"images": _up_to(folder, enough.together, until)}
    except (OSError, TimeoutError):
        return None
    return splits


def _training(dataset: Dataset, enough: Enough, until: float) -> dict[str, int] | None:
    if dataset.source == "fashion-mnist":
        from mfm.data import fashion_mnist

        return dict.fromkeys(fashion_mnist.CLASSES, fashion_mnist.TRAINING_IMAGES)
    if dataset.source == "generated":
        from mfm.data import generated

        return dict.fromkeys(generated.CLASSES, generated.PER_CLASS["train"])
    root = Path(dataset.source).expanduser() / "train"
    if not root.is_dir():
        return None
    counts: dict[str, int] = {}
    with os.scandir(root) as entries:
        names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    missing = enough.together
    for name in names:
        wanted = dataset.holdout_per_class + max(enough.in_a_class, missing)
        counts[name] = _up_to(root / name, wanted, until)
        missing -= counts[name] - dataset.holdout_per_class
    if not any(counts.values()):
        return None  # not for its numbers: the job that links it says what is missing
    return counts


def _up_to(folder: Path, enough: int, until: float) -> int:
    """Files below a folder that aren't hidden, but no more than `enough`."""
    found = 0
    for _ in _files(folder, until, depth=0):
        found += 1
        if found >= enough:
            break
    return found


def _files(folder: Path, until: float, *, depth: int) -> Iterator[None]:
    if time.monotonic() > until or depth > 40:  # or links that lead back
        raise TimeoutError
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files(Path(entry.path), until, depth=depth + 1)
            elif not entry.name.startswith("."):
                yield None
