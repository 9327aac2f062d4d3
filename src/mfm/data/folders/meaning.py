"""Meaning of a comparison on a dataset: what would make its numbers say nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mfm.data.folders.tree import quoted
from mfm.errors import UserError

SPLITS = ("train", "holdout", "val", "pretrain")
_ACROSS = (
    ("val", "train"),
    ("val", "holdout"),
    ("val", "pretrain"),
    ("holdout", "train"),
    ("holdout", "pretrain"),
    ("train", "pretrain"),
)
_CALLED = {"pretrain": "the unlabelled ones"}
FEW_IMAGES = 100


def faults(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Why nothing can be trained or measured on so many images of each class by split."""
    train, val = counts.get("train", {}), counts.get("val", {})
    if len(train) == 1:
        return [
            f"there is a single class, {quoted(*train)}, so every answer is right: two or more "
            "are needed in train and val"
        ]
    found = []
    if train and max(train.values()) == 1:
        found.append(
            "train has one image of each class: what a class's images have in common can't be "
            "learned from one; add some"
        )
    images = sum(val.values())
    if images < min(2 * len(val), FEW_IMAGES):
        found.append(
            f"val has {images} images of {len(val)} classes, each of which is {100 / images:.3g} "
            f"points of accuracy: give it at least 2 of each class, or {FEW_IMAGES} in all"
        )
    return found


def check_val(table: pa.Table) -> None:
    """Raise UserError where every image of val is also in train; before a holdout is taken."""
    parts = _contents(table)
    val = parts["val"]
    if not np.isin(val, parts["train"]).all():
        return
    raise UserError(
        f"all {len(val)} images of val are also in train, byte for byte: nothing can be said of "
        "images that were not trained on; put other ones into val"
    )


def overlap(table: pa.Table) -> dict[str, int]:
    """How many images of one split are also in another, byte for byte: 'val in train'."""
    parts = _contents(table)
    return {
        f"{there} in {here}": int(np.isin(parts[there], parts[here]).sum())
        for there, here in _ACROSS
        if len(parts[there]) and len(parts[here])
    }


def leaks(summary: Mapping[str, Any], *, of: Collection[str] = SPLITS) -> list[str]:
    """A sentence for each split of `of` with images that had better be in no other one.

    `summary` is a dataset's, as `mfm.data.linking.link.summary` makes it.
    """
    return [
        f"{number:,} of the {summary['splits'][there]['images']:,} images of {there} "
        f"{'is' if number == 1 else 'are'} also in {_CALLED.get(here, here)}, byte for byte."
        for there, here in _ACROSS
        if there in of and there != "train"
        if (number := summary["overlap"].get(f"{there} in {here}", 0))
    ]


def _contents(table: pa.Table) -> dict[str, npt.NDArray[np.uint64]]:
    """Hashes of each split's images."""
    contents, splits = table["content"].to_numpy(), table["split"]
    return {name: contents[pc.equal(splits, name).to_numpy()] for name in SPLITS}
